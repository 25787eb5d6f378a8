@echo off
rem Python reads dropped names out of the whole command line: one with an ampersand would end a command here.
setlocal EnableDelayedExpansion
set "SRFLOW_DROPPED=.!cmdcmdline!"
if not "!SRFLOW_DROPPED:%~n0=!"=="!SRFLOW_DROPPED!" goto dropped
setlocal DisableDelayedExpansion
"%~dp0python\python.exe" "%~dp0python\drop.py" %*
echo.
pause
exit /b
:dropped
setlocal DisableDelayedExpansion
"%~dp0python\python.exe" "%~dp0python\drop.py"
echo.
pause
exit
