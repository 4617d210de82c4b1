getent passwd nightjar >/dev/null || \
    useradd --system --user-group --home-dir /var/lib/nightjar --no-create-home --shell /sbin/nologin nightjar
