"""What finds the pose of an input: images and clouds of points."""
