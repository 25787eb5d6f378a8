@echo off
"%~dp0python\python.exe" -m srflow_apps.demo.command --open %*
if errorlevel 1 pause
