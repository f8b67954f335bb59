"""COCO folders: check, prepare, synthesize."""
