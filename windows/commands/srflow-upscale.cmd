@"%~dp0python\python.exe" -m srflow_sdk %*
