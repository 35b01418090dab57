#!/bin/sh
# Installs what tests start and programs.txt lists, as far as it is missing, if apt-get is there and
# the user is root. Elsewhere it says what to install; the tests that need it are skipped.
set -eu
list=$(dirname "$0")/programs.txt

# Packages of which no program is there.
missing() {
    while read -r package programs; do
        [ "$package" != "#" ] || continue
        found=
        for program in $programs; do
            for folder in $(echo "$PATH" | tr : ' ') /usr/sbin /usr/lib/postgresql/*/bin; do
                [ ! -x "$folder/$program" ] || found=yes
            done
        done
        [ -n "$found" ] || echo "$package"
    done <"$list"
}

# No package may start a service: the tests start what they need, for themselves.
install() {
    policy=/usr/sbin/policy-rc.d clusters=/etc/postgresql-common/createcluster.d
    trap 'exit 1' HUP INT TERM
    if [ ! -e $policy ]; then
        trap "rm -f $policy" EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    mkdir -p $clusters
    echo "create_main_cluster = false" >$clusters/none.conf
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    if command -v systemctl >/dev/null; then # nor at the next start of the machine
        for service in nginx postgresql prometheus; do
            case " $* " in *" $service"*) systemctl disable --quiet $service || true ;; esac
        done
    fi
}

wanted=$(missing)
# What the environment is made with, unless PYTHON has it.
"${PYTHON:-python3}" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
    2>/dev/null || wanted="$wanted python3-venv"
if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing" $wanted
    apt-get update -qq
    # Ubuntu, for one, has no Chromium that works in a container.
    install $(apt-cache --quiet=2 policy $wanted | awk '/^[^ ]/ { name = $1 } /Candidate: [0-9]/ {
        sub(":", "", name); print name }')
fi
wanted=$(missing)
if [ -n "$wanted" ]; then
    echo "note: tests whose programs are missing are skipped, and named at the end. For all tests,"
    echo "install (the names are those of Debian and Ubuntu):" $wanted
fi
