"""Image files as sequences of chunks: what draws the first frame, and nothing else.

Pillow reads every text, profile, EXIF tag and page that a file holds, some of it in time or memory
that grows with the square of the file. So one small reader per format walks over the file, takes
size, orientation and number of frames, and leaves a file that only draws.
"""
