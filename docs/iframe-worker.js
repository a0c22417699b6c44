// The search of pages that are opened as files, where a browser starts no worker: its script runs in a hidden frame instead.
// The theme's search looks for this name.
class IFrameWorker extends EventTarget {
  constructor(url) {
    super()
    const frame = document.createElement("iframe")
    frame.hidden = true
    document.body.append(frame)
    const inside = frame.contentWindow
    this.loaded = new Promise((done) => (frame.onload = done))
    this.post = (data) => inside.dispatchEvent(new MessageEvent("message", { data }))
    inside.document.open()
    inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
    inside.importScripts = async (...urls) => {
      for (const one of urls) await fetchScript(inside.document, one)
    }
    inside.document.write(`<html><body><script src="${url}"></script></body></html>`)
    inside.document.close()
  }

  postMessage(data) {
    this.loaded.then(() => this.post(data))
  }

  terminate() {}
}

function fetchScript(page, url) {
  return new Promise((done, failed) => {
    const script = page.createElement("script")
    Object.assign(script, { src: url, onload: done, onerror: failed })
    page.body.append(script)
  })
}

if (location.protocol === "file:") {
  window.IFrameWorker = IFrameWorker
  window.Worker = IFrameWorker
}
