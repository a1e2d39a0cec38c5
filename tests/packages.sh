# To be sourced: this machine's mirror of Debian, and what its packages hold.
# shellcheck shell=bash

# mirror: prints where this machine gets its Debian: apt knows, whatever form its files have.
mirror() {
    local found
    found=$(_mirrors)
    [[ -n $found ]] || { apt-get -qq update; found=$(_mirrors); }
    # As on Debian's cloud images: a file with a mirror a line.
    [[ $found != mirror+file:* ]] || found=$(sed 's/[[:space:]].*//; q' "${found#mirror+file:}")
    [[ -n $found ]] || { echo "setup: apt knows no mirror of Debian" >&2; return 1; }
    echo "$found"
}

_mirrors() {
    # shellcheck disable=SC2016  # apt's own $( )
    apt-get indextargets --format '$(REPO_URI)' \
        'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' | sed -n '1s|/$||p'
}

# extract DEBS DIRECTORY: makes DIRECTORY of what the packages in the directory DEBS hold.
extract() {
    local new package
    new=$(mktemp -d "$2.XXXXXXXX")
    # What some releases have in /bin or /lib is where the others have it.
    for package in "$1"/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar --extract --no-same-owner --directory="$new" \
            --transform='s#^\./\(bin\|lib\|sbin\)/#./usr/\1/#'
    done
    chmod 755 "$new"
    mv -T "$new" "$2"
}
