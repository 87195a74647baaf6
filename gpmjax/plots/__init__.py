"""Pictures of finished or running work. Reads the files that runs write and imports nothing else of gpmjax."""
