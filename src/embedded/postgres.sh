# A database cluster that ends and goes when standard input does, so also when whoever holds its other end was killed.
#   $1 the folder of Postgres's programs   $2 the folder to work in, which is deleted unless "keep" was read
trap '' INT TERM HUP
bin=$1 dir=$2 data=$2/data
started=
settings() {
  echo "unix_socket_directories = '$dir'"
  echo "listen_addresses = ''"
  echo 'fsync = off'
  echo 'full_page_writes = off'
}
if "$bin/initdb" -D "$data" -U sluicegate -A trust -E UTF8 --no-locale -N >"$dir/log" 2>&1 &&
  settings >>"$data/postgresql.conf" &&
  "$bin/pg_ctl" -D "$data" -l "$dir/log" -w start >/dev/null 2>&1; then
  started=1
  echo started
else
  echo failed
fi
keep=
read -r keep || :
[ -z "$started" ] || "$bin/pg_ctl" -D "$data" -m fast -w stop >/dev/null 2>&1
[ "$keep" = keep ] || rm -rf "$dir"
