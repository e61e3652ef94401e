"""Reduction of image files to what draws their first frame, and its decoding; a reader per format.

Pillow reads every text, profile, EXIF tag and page of a file, some of it in time or memory that
grows with the square of the file's size. So a small reader walks over the file first, reads size,
orientation and number of frames, and gives the decoder a file without the rest. Decoders leave
pixels black that a file does not deliver; the reader finds out and refuses the file.
"""
