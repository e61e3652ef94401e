"""Reduction of image files to the chunks that draw their first frame, one reader per format.

Pillow reads every text, profile, EXIF tag and page of a file, some of it in time or memory that
grows with the square of the file's size. So a small reader walks over the file first, reads size,
orientation and number of frames, and returns a file without the rest.
"""
