#!/bin/sh
# The runs over a network: loader points and loader csv by each method beside psql's \copy, and
# loads of one chunk, and four loaders on one load.
#
#	sh testdata/bench/network.sh URL [rows [rounds [round trips]]]
#
# URL is a running server of PostgreSQL or CockroachDB. It takes about 6 minutes with the default
# of 400000 rows (PostgreSQL: 1000000), 3 rounds and the round trip 50ms. PARTS names some of copy,
# one and four.
set -eu
url=$1 rounds=${3:-3} trips=${4:-50ms} parts=${PARTS:-copy one four}
cockroach=$(psql -qAt "$url" -c 'SELECT count(*) FROM (SELECT version() AS v) AS s WHERE v LIKE $$CockroachDB%$$')
if [ "$cockroach" = 1 ]; then rows=${2:-400000}; else rows=${2:-1000000}; fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/loader" ./cmd/loader
go build -o "$dir/turns" ./testdata/bench/turns
export D="$dir" N="$rows"
turns() { "$dir/turns" --url "$url" --loader "$dir/loader" --count "$rounds" "$@"; }
table='CREATE TABLE points (id INT8 PRIMARY KEY, x FLOAT8 NOT NULL, y FLOAT8 NOT NULL, z FLOAT8 NOT NULL)'

"$dir/loader" points --n "$rows" --seed 5 --streams 1 --out "$dir/points.csv" --quiet >/dev/null
tr ',' '\t' <"$dir/points.csv" >"$dir/points.txt"
csv='"$LOADER" csv "$D/points.csv" --table points --columns id,x,y,z --header no --quiet --url "$URL"'
points='"$LOADER" points --n "$N" --quiet --url "$URL"'

for rtt in $trips; do
	case $parts in *copy*) ;; *) continue ;; esac
	if [ "$cockroach" = 1 ]; then
		# Each run has a new table: rows that TRUNCATE leaves behind slow the next run down.
		turns --rtt "$rtt" --title "$rows points" --reset "DROP TABLE IF EXISTS points; $table" --want "$rows" \
			'psql \copy as text inside BEGIN=psql -q -v ON_ERROR_STOP=1 "$URL" -c BEGIN -c "\copy points from $D/points.txt" -c COMMIT' \
			"loader points in chunks=$points --via insert" \
			"loader csv in chunks=$csv --via insert" \
			"loader csv by the ledger=$csv --via insert --commit transaction" \
			"loader csv by IMPORT=$csv --via import"
	else
		set --
		if command -v timescaledb-parallel-copy >/dev/null; then
			set -- 'timescaledb-parallel-copy=timescaledb-parallel-copy --connection "$URL" --table points --file "$D/points.csv" --workers 4'
		fi
		turns --rtt "$rtt" --title "$rows points" --reset "DROP TABLE IF EXISTS points; $table; CHECKPOINT" --want "$rows" \
			'psql \copy=psql -q "$URL" -c "\copy points from $D/points.csv csv"' \
			"loader points=$points" \
			"loader csv=$csv" \
			"loader csv by INSERT=$csv --via insert" "$@"
	fi
done

case $parts in *one*)
	for rtt in $trips; do
		turns --rtt "$rtt" --title 'one chunk, tables there' --setup "$table" --reset 'DELETE FROM points' --want 1000 \
			'loader points --n 1000="$LOADER" points --n 1000 --quiet --url "$URL"'
	done ;;
esac

case $parts in *four*)
	# One loader, and four that share a load: the first begins it, the others resume it.
	if [ "$cockroach" = 1 ]; then rtt=100ms args='--via insert --workers 1'; else rtt=20ms args='--workers 2'; N=$((2 * rows)); fi
	cat >"$dir/four" <<'S'
"$LOADER" points --n "$N" --chunk 1000 $ARGS --url "$URL" >/dev/null 2>"$D/said" &
first=$! id=
while [ -z "$id" ] && kill -0 $first 2>/dev/null; do id=$(psql -qAt "$URL" -c "SELECT id FROM loader.loads WHERE state = 'loading' LIMIT 1" 2>/dev/null || true); done
others=
[ -z "$id" ] || for i in 1 2 3; do "$LOADER" loads resume "$id" $WORKERS --chunk 1000 --quiet --url "$URL" >/dev/null & others="$others $!"; done
for p in $first $others; do wait "$p"; done
S
	export ARGS="$args" WORKERS="--workers ${args##* }"
	turns --rtt "$rtt" --title "$N points, --chunk 1000 $args each" --reset "DROP TABLE IF EXISTS points; $table" --want "$N" \
		"one loader=\"\$LOADER\" points --n \"\$N\" --chunk 1000 $args --quiet --url \"\$URL\"" \
		"four loaders=sh -e \"\$D/four\"" ;;
esac
