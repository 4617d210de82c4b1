install -d -m 750 -o nightjar -g nightjar /var/lib/nightjar /var/log/nightjar
chown root:nightjar /etc/nightjar
chmod 750 /etc/nightjar
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
