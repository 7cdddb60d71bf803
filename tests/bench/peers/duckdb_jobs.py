"""Word count and sort of a text by DuckDB, with the output that AIOS writes.

usage: duckdb_jobs.py wordcount|sort FILE OUTPUT THREADS      prints the seconds it took
"""

import os
import sys
import time

import duckdb

# One column, a line each, whatever is in it.
LINES = ("read_csv(?, columns={'line': 'VARCHAR'}, header=false, delim='\\x00', quote='', escape='', "
         "auto_detect=false, strict_mode=false)")
WORDS = "string_split(translate(line, chr(9) || chr(11) || chr(12) || chr(13), '    '), ' ')"
QUERIES = {
    "wordcount": f"SELECT word, count(*) AS n FROM (SELECT unnest({WORDS}) AS word FROM {LINES}) "
                 f"WHERE word <> '' GROUP BY word ORDER BY word",
    "sort": f"SELECT line FROM {LINES} ORDER BY line",
}


def main():
    case, path, output, threads = sys.argv[1:]
    begin = time.monotonic()
    database = duckdb.connect(config={"threads": int(threads), "preserve_insertion_order": False})
    database.execute(f"COPY ({QUERIES[case]}) TO '{output}' "
                     f"(FORMAT csv, HEADER false, DELIMITER '\\t', QUOTE '', ESCAPE '')", [path])
    with open(output, "rb") as written:
        os.fsync(written.fileno())
    print(f"{time.monotonic() - begin:.6f}")


if __name__ == "__main__":
    main()
