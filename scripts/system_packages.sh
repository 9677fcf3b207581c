#!/bin/sh
# Make sure that the system has what Qt, OpenGL and a virtual screen need. Debian and Ubuntu only; elsewhere it says what is missing.
set -eu
[ "$(uname -s)" = Linux ] || exit 0
PATH="$PATH:/usr/sbin:/sbin"

# shared library -> Debian package that brings it
libraries='
libEGL.so.1            libegl1
libGL.so.1             libgl1
libOpenGL.so.0         libopengl0
libdbus-1.so.3         libdbus-1-3
libfontconfig.so.1     libfontconfig1
libglib-2.0.so.0       libglib2.0-0
libxcb-cursor.so.0     libxcb-cursor0
libxcb-icccm.so.4      libxcb-icccm4
libxcb-image.so.0      libxcb-image0
libxcb-keysyms.so.1    libxcb-keysyms1
libxcb-randr.so.0      libxcb-randr0
libxcb-render-util.so.0 libxcb-render-util0
libxcb-shape.so.0      libxcb-shape0
libxcb-xinerama.so.0   libxcb-xinerama0
libxcb-xkb.so.1        libxcb-xkb1
libxkbcommon-x11.so.0  libxkbcommon-x11-0
'

present=$(ldconfig -p)
missing=$(echo "$libraries" | while read -r library package; do
    [ -z "$library" ] || case "$present" in *"$library "*) ;; *) echo "$package" ;; esac
done)
command -v xvfb-run >/dev/null || missing="$missing xvfb xauth"
# the venv module comes apart from Python on Debian
"${1:-python3}" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
# software OpenGL, for a virtual screen (newer Mesa has one file for all drivers)
find /usr/lib -name swrast_dri.so -o -name 'libgallium*.so' | grep -q . || missing="$missing libgl1-mesa-dri"
missing=$(echo $missing)
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "Missing from this system (by their Debian names): $missing" >&2
    echo "Install the packages of your distribution that bring them, then run make again." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    sudo=sudo
else
    echo "This needs system packages that only an administrator may install. Run:" >&2
    echo "    apt-get update && apt-get install -y --no-install-recommends $missing" >&2
    echo "as root, then run make again." >&2
    exit 1
fi
echo "Installing system packages: $missing"
$sudo apt-get update -q
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
