"""The words and phrases that training pages are made of, in several languages of the Latin script."""

LANGUAGES = {
    "english": """
        the of and to in is you that it he was for on are with as his they be at one have this from or had by hot but some
        what there we can out other were all your when up use word how said an each she which do their time if will way about
        many then them would write like so these her long make thing see him two has look more day could go come did my sound
        no most number who over know water than call first people may down side been now find any new work part take get place
        made live where after back little only round man year came show every good me give our under name very through just
        form much great think say help low line before turn cause same mean differ move right boy old too does tell sentence
        set three want air well also play small end put home read hand port large spell add even land here must big high such
        follow act why ask men change went light kind off need house picture try us again animal point mother world near build
        self earth father head stand own page should country found answer school grow study still learn plant cover food sun""",
    "german": """
        der die das und ist nicht ein eine mit auf für den dem sich von zu als auch werden aus bei nach wie über dass noch nur
        Straße Haus Größe grün schön Mädchen Frühling Äpfel Übung Öffnung heißen weiß müssen können Wetter morgen Jahr Kinder
        Schule Bücher lesen schreiben Wasser Fenster Tür Garten Bahnhof Fahrkarte Rechnung Betrag Datum Nummer Zeit Woche""",
    "french": """
        le la les un une et est dans pour que qui sur avec pas plus tout nous vous ils être avoir faire été même où très déjà
        français école hôtel fenêtre garçon leçon élève forêt goût sœur cœur août naïve crème brûlée près après voilà rendez
        maison rue ville jour nuit eau pain livre table porte jardin train gare prix date nom prénom adresse signature""",
    "spanish": """
        el la los las un una y es en por para con no más como pero sus este año niño mañana señor español corazón aquí está
        también después qué cuándo dónde casa calle ciudad agua libro mesa puerta jardín tren estación precio fecha nombre""",
    "italian": """
        il lo la gli le un una e di che non per con sono come più anche questo perché città è già così può università libertà
        casa strada giorno notte acqua pane libro tavolo porta giardino treno stazione prezzo data nome cognome firma""",
    "portuguese": """
        o a os as um uma e de que não para com são mais como também você está coração ação irmão mãe manhã pão avô português
        casa rua cidade água livro mesa porta jardim trem estação preço data nome endereço""",
    "polish": """
        i w na z do nie się jest to że jak ale po przez już być może który język łąka źródło żółty święto gęś ćma dzień człowiek
        dom ulica miasto woda książka stół drzwi ogród pociąg dworzec cena nazwisko""",
    "swedish": """
        och i att det som en på är av för med till den har inte om ett men var kan från så år vatten språk höst går måste också
        hus gata stad bok bord dörr trädgård tåg pris datum namn adress""",
    "turkish": """
        ve bir bu için ile çok daha olarak gibi değil güneş şehir ağaç çiçek öğrenci ışık yağmur küçük büyük kitap masa kapı
        bahçe tren istasyon fiyat tarih isim""",
}

SIGNS = """
    STOP|EXIT|NO ENTRY|PUSH|PULL|OPEN|CLOSED|SALE|WARNING|DANGER|CAUTION|PRIVATE|KEEP OUT|NO SMOKING|PARKING|WAY OUT|
    TOILETS|EMERGENCY EXIT|DO NOT TOUCH|WET FLOOR|HIGH VOLTAGE|AUTHORISED PERSONNEL ONLY|NO PARKING|ONE WAY|SLOW|SCHOOL|
    HOSPITAL|HOTEL|RESTAURANT|BAKERY|PHARMACY|LIBRARY|MUSEUM|STATION|PLATFORM 9|GATE 24|TERMINAL 2|ROOM 317|FIRST FLOOR|
    LIFT|STAIRS|EINGANG|AUSGANG|VERBOTEN|SORTIE|ENTRÉE|INTERDIT|SALIDA|ENTRADA|PELIGRO|USCITA|VIETATO|PROIBIDO|WYJŚCIE|
    UTGÅNG|FREE WIFI|Fresh Coffee|Mind the Gap|Please Queue Here|Thank You|Welcome|Speed Limit 50|Maximum Headroom 4.2m|
    Please Wash Your Hands|Ladies|Gentlemen|Beware of the Dog|Fire Door Keep Shut|Closed on Sundays|Opening Hours|
    Cash Only|Ring the Bell|Out of Order|Staff Only
"""

GOODS = """
    Milk|Bread|Butter|Eggs|Cheese|Apples|Bananas|Coffee|Tea|Sugar|Flour|Rice|Pasta|Tomatoes|Onions|Potatoes|Chicken|Ham|
    Water|Juice|Soap|Batteries|Espresso|Cappuccino|Croissant|Sandwich|Salad|Soup|Pizza|Wine|Beer|Cola|Kaffee|Brötchen|
    Fromage|Vin rouge
"""

FIELDS = """
    Name|First name|Surname|Date|Date of birth|Address|City|Post code|Telephone|E-mail|Signature|Account|Amount|
    Reference|Total|Invoice No.|Order No.|Customer|Quantity|Unit price|Subtotal|VAT 20%|Balance|Paid|Change|Department|
    Vorname|Geburtsdatum|Prénom|Code postal|Montant|Apellido|Fecha|Dirección|Cognome|Indirizzo|Passport no.|Nationality|
    Sex|Height|Valid until
"""


def phrases(text: str) -> list[str]:
    """The phrases of a list with bars between them."""
    return [" ".join(part.split()) for part in text.split("|")]
