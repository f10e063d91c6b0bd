#!/bin/sh
# Installs Landfall on a machine without dpkg, from the directory in which this script lies. Run again, with the same or
# a newer version, it installs that over what there is; what you have written below /etc/landfall stays as it is.
set -eu

usage() {
    cat >&2 <<'END'
usage: ./install.sh [--prefix DIRECTORY] [--uninstall] agent|controller|ctl...

  agent, controller   as root, on a machine with systemd 249 or newer (the agent: and polkit 0.106 or newer)
  ctl                 the operator's command line, for anybody with a --prefix that is theirs
  --prefix DIRECTORY  where programs, man pages and completions go [default: /usr/local]
  --uninstall         takes it away again; its state, its settings and what was released stay
END
    exit 2
}

refuse() {
    echo "install.sh: $*" >&2
    exit 1
}

prefix=/usr/local uninstall=false components=
while [ $# -gt 0 ]; do
    case "$1" in
    --prefix)
        [ $# -ge 2 ] || usage
        prefix=$2
        shift
        ;;
    --prefix=*) prefix=${1#*=} ;;
    --uninstall) uninstall=true ;;
    agent | controller | ctl) components="$components $1" ;;
    *) usage ;;
    esac
    shift
done
[ -n "$components" ] || usage
prefix=${prefix%/}
case $prefix in
*[!A-Za-z0-9/._+-]* | [!/]* | */../* | */..) refuse "--prefix is an absolute path of letters, digits and ._+-: $prefix" ;;
esac
cd "$(dirname "$0")"

# Where the machine looks for what is its administrator's.
etc=/etc
units=$etc/systemd/system

# What is enabled, and what it needs beside that; each has its settings.
services_of() {
    case $1 in
    agent) echo "updater agent" ;;
    controller) echo controller ;;
    esac
}
templates_of() {
    [ "$1" != agent ] || echo "landfall-holder@ landfall-step@ landfall-step-net@ landfall-tmp"
}

check() { # check COMPONENT: nothing is touched before all of them fit this machine
    [ "$1" != ctl ] || return 0
    [ "$(id -u)" = 0 ] || refuse "the $1 is installed by root"
    { [ -d /run/systemd/system ] && command -v systemctl >/dev/null; } ||
        refuse "this machine does not run systemd, which starts the $1 and its services; ./install.sh ctl needs none"
    for tool in systemd-sysusers systemd-tmpfiles; do
        command -v $tool >/dev/null || refuse "$tool is not installed; it comes with systemd, in some distributions by itself"
    done
    version=$(systemctl --version | sed -n '1s/[^0-9]*\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 249 ] || refuse "systemd is ${version:-of an unknown version} here, and has to be 249 or newer"
    if command -v dpkg-query >/dev/null &&
        dpkg-query --show --showformat '${Status}' "landfall-$1" 2>/dev/null | grep -q ' installed$'; then
        refuse "the package landfall-$1 is installed here: go on with it, or \`apt-get remove landfall-$1\` first"
    fi
    case $prefix/ in
    # These are hidden from the units.
    /home/* | /root/* | /run/* | /tmp/* | /var/tmp/*) refuse "the $1 does not start from $prefix: choose another --prefix" ;;
    esac
    [ "$1" = agent ] || return 0
    # The agent is not root: polkit lets it start the units of its services.
    command -v pkaction >/dev/null || refuse "polkit is not installed; the agent needs 0.106 or newer (package polkit or polkitd)"
    version=$(pkaction --version | sed 's/^[^0-9]*//')
    case $version in
    0.[0-9] | 0.[0-9][0-9] | 0.10[0-5]) refuse "polkit is $version here, and has to be 0.106 or newer: it reads no rules" ;;
    esac
}

place() { # place MODE FROM TO: whoever runs the old file goes on with it
    mkdir -p "$(dirname "$3")"
    cp "$2" "$3.landfall-new"
    chmod "$1" "$3.landfall-new"
    mv -f "$3.landfall-new" "$3"
}

keep() { # keep FROM TO: a file that is the administrator's from the first time on
    if [ ! -e "$2" ]; then
        place 644 "$1" "$2"
    elif ! cmp -s "$1" "$2"; then
        echo "kept $2; as it comes it is in $prefix/share/doc/landfall/$(basename "$2")"
    fi
}

install_texts() { # install_texts PROGRAM
    for page in man/"$1".1.gz man/"$1"-*.1.gz; do
        [ ! -e "$page" ] || place 644 "$page" "$prefix/share/man/man1/$(basename "$page")"
    done
}

install_unit() { # install_unit NAME
    sed "s#=\(-+\)\{0,1\}/usr/bin/landfall-#=\1$prefix/bin/landfall-#" "systemd/system/$1.service" >"$work/unit"
    place 644 "$work/unit" "$units/$1.service"
}

install_component() { # install_component agent|controller
    place 755 "bin/landfall-$1" "$prefix/bin/landfall-$1"
    install_texts "landfall-$1"
    for service in $(services_of "$1"); do
        place 644 "etc/$service.toml" "$prefix/share/doc/landfall/$service.toml"
        keep "etc/$service.toml" "$etc/landfall/$service.toml"
    done
    place 644 "systemd/sysusers.d/landfall-$1.conf" "$etc/sysusers.d/landfall-$1.conf"
    place 644 "systemd/tmpfiles.d/landfall-$1.conf" "$etc/tmpfiles.d/landfall-$1.conf"
    if [ "$1" = agent ]; then
        rules=$etc/polkit-1/rules.d
        place 644 polkit/50-landfall.rules "$rules/50-landfall.rules"
        place 644 polkit/40-landfall-units.rules "$prefix/share/doc/landfall/40-landfall-units.rules"
        keep polkit/40-landfall-units.rules "$rules/40-landfall-units.rules"
    fi
    systemd-sysusers "$etc/sysusers.d/landfall-$1.conf"
    systemd-tmpfiles --create "$etc/tmpfiles.d/landfall-$1.conf" || true
    for unit in $(templates_of "$1"); do
        install_unit "$unit"
    done
    new=
    for service in $(services_of "$1"); do
        [ -e "$units/landfall-$service.service" ] || new="$new landfall-$service.service"
        install_unit "landfall-$service"
    done
    systemctl daemon-reload
    # Who has disabled one meanwhile wants it so.
    [ -z "$new" ] || systemctl --quiet enable $new
    # The services that it releases live in units of their own, which nobody touches here. An agent that has not joined
    # does not start: its unit's condition says so. A new controller is started by hand, after `init`.
    for service in $(services_of "$1"); do
        if [ "$1" = agent ] && systemctl --quiet is-enabled "landfall-$service.service"; then
            systemctl restart "landfall-$service.service"
        else
            systemctl try-restart "landfall-$service.service"
        fi
    done
}

install_ctl() {
    place 755 bin/ctl "$prefix/bin/ctl"
    install_texts ctl
    place 644 completion/ctl.bash "$prefix/share/bash-completion/completions/ctl"
    place 644 completion/_ctl "$prefix/share/zsh/site-functions/_ctl"
    place 644 completion/ctl.fish "$prefix/share/fish/vendor_completions.d/ctl.fish"
}

remove_component() { # remove_component agent|controller
    for service in $(services_of "$1"); do
        if systemctl --quiet is-active "landfall-$service.service"; then
            systemctl stop "landfall-$service.service"
        fi
        systemctl --quiet disable "landfall-$service.service" 2>/dev/null || true
        rm -f "$units/landfall-$service.service" "$prefix/share/doc/landfall/$service.toml"
    done
    for unit in $(templates_of "$1"); do
        rm -f "$units/$unit.service"
    done
    rm -f "$prefix/bin/landfall-$1" "$prefix/share/man/man1/landfall-$1.1.gz" \
        "$prefix/share/man/man1/landfall-$1"-*.1.gz "$etc/sysusers.d/landfall-$1.conf" "$etc/tmpfiles.d/landfall-$1.conf"
    if [ "$1" = agent ]; then
        rm -f "$etc/polkit-1/rules.d/50-landfall.rules" "$prefix/share/doc/landfall/40-landfall-units.rules"
        # What serves goes on serving until somebody stops it.
        services=$(systemctl list-units --plain --no-legend --state=active 'landfall-holder@*.service' |
            cut -d ' ' -f 1 | tr '\n' ' ')
        [ -z "$services" ] || echo "These services go on until they are stopped or the machine reboots: $services"
    fi
    systemctl daemon-reload
}

remove_ctl() {
    rm -f "$prefix/bin/ctl" "$prefix/share/man/man1/ctl.1.gz" "$prefix/share/man/man1/ctl"-*.1.gz \
        "$prefix/share/bash-completion/completions/ctl" "$prefix/share/zsh/site-functions/_ctl" \
        "$prefix/share/fish/vendor_completions.d/ctl.fish"
}

for component in $components; do
    check "$component"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for component in $components; do
    case "$uninstall $component" in
    "false ctl") install_ctl ;;
    "true ctl") remove_ctl ;;
    false*) install_component "$component" ;;
    true*) remove_component "$component" ;;
    esac
done
rmdir "$prefix/share/doc/landfall" 2>/dev/null || true
