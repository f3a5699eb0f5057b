"""Insert accounts as the tutorial's program does: multi-row INSERTs by psycopg2, each
chunk in a transaction with the savepoint of CockroachDB's retries.

usage: insert.py URL ROWS CHUNK. The table accounts (id, balance) must be there and empty.
"""

import random
import sys

import psycopg2
from psycopg2.extras import execute_values

url, rows, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
conn = psycopg2.connect(url)
seen = set()  # random ids collide; the tutorial's program would fail there
for first in range(0, rows, size):
    chunk = []
    while len(chunk) < min(size, rows - first):
        id = int(random.random() * 1000000000)
        if id not in seen:
            seen.add(id)
            chunk.append((id, int(random.random() * 1000000)))
    with conn.cursor() as cur:
        cur.execute("SAVEPOINT cockroach_restart")
        execute_values(cur, "INSERT INTO accounts (id, balance) VALUES %s", chunk, page_size=size)
        cur.execute("RELEASE SAVEPOINT cockroach_restart")
    conn.commit()
conn.close()
