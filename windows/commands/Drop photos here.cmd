@echo off
rem Python reads the names out of the whole command line: one with an ampersand would end a command here.
setlocal EnableDelayedExpansion
set "SRFLOW_DROPPED=!cmdcmdline!"
"%~dp0python\python.exe" "%~dp0python\drop.py"
echo.
pause
exit
