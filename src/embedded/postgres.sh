# A database cluster that ends and goes when standard input does, so also when whoever holds its other end was killed.
#   $1 the folder of Postgres's programs   $2 the folder to work in, which is deleted unless a line "keep" was read
# Says whether it started. Nothing but the end of standard input ends it: nor does anybody who has stopped listening.
trap '' INT TERM HUP PIPE
umask 077
bin=$1 dir=$2 data=$2/data
settings() {
  echo "unix_socket_directories = '$dir'"
  echo 'unix_socket_permissions = 0700'
  echo "listen_addresses = ''"
  echo 'port = 5432'
  echo 'fsync = off'
  echo 'full_page_writes = off'
}
started=
if "$bin/initdb" -D "$data" -U sluicegate -A trust -E UTF8 --no-locale -N >/dev/null 2>"$dir/log" &&
  settings >>"$data/postgresql.conf" &&
  "$bin/pg_ctl" -D "$data" -l "$dir/log" -w start >/dev/null 2>&1; then
  started=1
fi
echo "${started:-0}"
keep=
while read -r line; do keep=$line; done
[ -z "$started" ] || "$bin/pg_ctl" -D "$data" -m fast -w stop >/dev/null 2>&1
[ "$keep" = keep ] || rm -rf "$dir"
