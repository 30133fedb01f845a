#!/bin/sh
# Makes what compose.yaml mounts as secrets: a CA of its own, a certificate for each service, tokens. For one machine and
# for trying things out; in a company its own CA signs the certificates. Needs openssl and lookback-search.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir secrets
cd secrets
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
    -subj "/CN=lookback CA" -keyout ca.key -out ca.pem
for name in search ranking; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$name.key" -out "$name.csr"
    printf 'subjectAltName=DNS:%s,DNS:localhost,IP:127.0.0.1\n' "$name" > "$name.ext"
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -extfile "$name.ext" -out "$name.pem"
    rm "$name.csr" "$name.ext"
done
lookback-search token --caller ranking --role rank --tokens tokens --out ranking.token
lookback-search token --caller ads --role rank --tokens tokens --out ads.token
lookback-search token --caller prometheus --tokens tokens --out prometheus.token
openssl rand -hex 16 > grafana.password
# Containers read them as users of their own.
chmod 755 .
chmod 644 *.pem search.key ranking.key tokens *.token grafana.password
