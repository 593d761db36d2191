"""The table of states: what is known of every item, in SQLite. The records in the folders stay the truth.

One process writes a table. A run without shards writes ``OUT/roomtours.sqlite``; shard i of n writes
``WORK/states/i_of_n.sqlite`` and adds its rows to the first when it ends, so that no two machines write one file for
hours. The journal is SQLite's rollback journal: the write-ahead log needs shared memory, which network file systems
lack. Reading takes all tables and the newest row of each item.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

BUSY_SECONDS = 60.0
SAVE_SECONDS = 0.5  # rows go into the file together: a transaction waits for the disk
GONE = "gone"  # of an item that is no longer part of the data set: says so to the common table
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Row:
    """The state of one item in one stage.

    Attributes:
        video, scene, stage: which; ``scene`` is empty for stages of whole videos.
        status: "done", "rejected", "failed" (in the file also "gone").
        reason: why not; one line.
        permanent: another try would end the same way.
        attempts: how often it was tried with this key.
        key: of settings and inputs (`data_tools.chain.plan`); empty where the table was made from the folders alone.
        mark: size and time of the folder's record, to see that it is the same still; empty without a folder.
        settings_hash, input_hash: of the record.
        seconds, host: of the last try.
        updated: Unix time.
    """

    video: str
    scene: str
    stage: str
    status: str
    reason: str = ""
    permanent: bool = False
    attempts: int = 1
    key: str = ""
    mark: str = ""
    settings_hash: str = ""
    input_hash: str = ""
    seconds: float = 0.0
    host: str = ""
    updated: float = 0.0

    @property
    def item(self) -> Key:
        """What the row is about."""
        return self.video, self.scene, self.stage

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.scene or self.video

    @property
    def is_settled(self) -> bool:
        """Whether trying again with the same key is of no use."""
        return self.status == "done" or self.permanent


@dataclass(frozen=True)
class Source:
    """A video file as it was when its fingerprint was taken."""

    path: str
    size: int
    mtime_ns: int
    fingerprint: str
    video: str


COLUMNS = [field.name for field in fields(Row)]
SOURCE_COLUMNS = [field.name for field in fields(Source)]
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS states ({", ".join(COLUMNS)}, PRIMARY KEY (video, scene, stage));
CREATE TABLE IF NOT EXISTS sources ({", ".join(SOURCE_COLUMNS)}, PRIMARY KEY (path));
CREATE TABLE IF NOT EXISTS facts (name PRIMARY KEY, value);
"""


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path or ":memory:", timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _insert(table: str, columns: list[str]) -> str:
    return f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def read_rows(path: Path) -> list[Row]:
    """All rows of a table; none where it is missing or cannot be read."""
    if not path.is_file():
        return []
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as table:
            found = table.execute(f"SELECT {', '.join(COLUMNS)} FROM states").fetchall()
    except sqlite3.Error:
        return []
    return [replace(row, permanent=bool(row.permanent)) for row in (Row(*values) for values in found)]


def merged_rows(tables: list[Path]) -> dict[Key, Row]:
    """The newest row of every item over several tables."""
    rows: dict[Key, Row] = {}
    for path in tables:
        for row in read_rows(path):
            if row.item not in rows or rows[row.item].updated <= row.updated:
                rows[row.item] = row
    return {item: row for item, row in rows.items() if row.status != GONE}


class States:
    """The rows in memory and in one table.

    Args:
        table: the file this process writes; None keeps everything in memory.
        others: tables of other shards and the common one, read once.

    A table that cannot be written (a full disk) costs nothing but time: its rows are kept and written later, and what
    is lost is read from the folders again. A damaged one is put aside.
    """

    def __init__(self, table: Path | None, others: list[Path] | None = None) -> None:
        self.table = table
        self.notes: list[str] = []
        self.is_new = table is None or not table.is_file()
        self._unsaved: dict[Key, Row] = {}
        self._saved = 0.0
        self._connection = self._open_or_replace()
        self.rows = merged_rows([*(others or []), *([table] if table is not None else [])])
        self._videos: dict[str, set[Key]] = {}
        for item in self.rows:
            self._videos.setdefault(item[0], set()).add(item)
        self._sources = {
            source.path: source
            for source in (
                Source(*values)
                for values in self._connection.execute(f"SELECT {', '.join(SOURCE_COLUMNS)} FROM sources")
            )
        }

    def _open_or_replace(self) -> sqlite3.Connection:
        try:
            return _open(self.table)
        except sqlite3.DatabaseError as error:
            if self.table is None or isinstance(error, sqlite3.OperationalError):
                raise OSError(f"{self.table}: {error}; check space, rights and locks of the disk") from error
            self.table.replace(self.table.with_suffix(".damaged"))
            self.notes.append(f"{self.table.name} was damaged and is made again from the folders")
            self.is_new = True
            return _open(self.table)

    def get(self, video: str, scene: str, stage: str) -> Row | None:
        """The row of an item, or None."""
        return self.rows.get((video, scene, stage))

    def of_video(self, video: str) -> list[Row]:
        """All rows of a video."""
        return [self.rows[item] for item in sorted(self._videos.get(video, ()))]

    def put(self, row: Row) -> Row:
        """Keep a row; the newest try of an item counts, tries with the same key are counted up."""
        before = self.rows.get(row.item)
        attempts = before.attempts + 1 if before is not None and before.key == row.key and row.key else row.attempts
        row = replace(row, attempts=attempts, updated=time.time())
        self._keep(row)
        self.save_soon()
        return row

    def put_all(self, rows: list[Row]) -> None:
        """Keep many rows in one transaction, as they are."""
        for row in rows:
            self._keep(row if row.updated else replace(row, updated=time.time()))
        self._save()

    def _keep(self, row: Row) -> None:
        self.rows[row.item] = self._unsaved[row.item] = row
        self._videos.setdefault(row.video, set()).add(row.item)

    def drop(self, items: list[Key]) -> None:
        """Forget items that are no longer part of the data set."""
        for item in items:
            self.rows.pop(item, None)
            self._videos.get(item[0], set()).discard(item)
            self._unsaved[item] = Row(*item, status=GONE, updated=time.time())
        self.save_soon()

    def save_soon(self) -> None:
        """Write the rows, not more often than twice a second; what a kill loses is read from the folders again."""
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self._save()

    def _save(self) -> bool:
        self._saved = time.monotonic()
        if not self._unsaved:
            return True
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(_insert("states", COLUMNS), [astuple(row) for row in self._unsaved.values()])
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            return False
        self._unsaved.clear()
        return True

    def source(self, path: str) -> Source | None:
        """What is known of a video file."""
        return self._sources.get(path)

    def sources_of(self, video: str) -> list[Source]:
        """The files that had this name."""
        return [source for source in self._sources.values() if source.video == video]

    def put_source(self, source: Source) -> None:
        """Remember a file's fingerprint."""
        self._sources[source.path] = source
        with contextlib.suppress(sqlite3.Error):  # a full disk: it is only taken again
            self._connection.execute(_insert("sources", SOURCE_COLUMNS), astuple(source))

    def fact(self, name: str) -> str:
        """A remembered text, or ""."""
        found = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def put_fact(self, name: str, value: str) -> None:
        """Remember a text."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute(_insert("facts", ["name", "value"]), (name, value))

    def close(self, merge_into: Path | None = None) -> bool:
        """Write what is left, and add all own rows to the common table.

        Args:
            merge_into: the common table, for a shard.

        Returns:
            Whether everything is stored; what is not is found again in the folders.
        """
        saved = self._save()
        if self.table is not None and merge_into not in (None, self.table):
            try:
                _merge(self.table, merge_into)
            except sqlite3.Error:
                saved = False
        self._connection.close()
        return saved


def _merge(table: Path, into: Path) -> None:
    """Newer rows of one table into another, in one transaction."""
    with contextlib.closing(_open(into)) as common:
        known = {row.item: row for row in read_rows(into)}
        newer = [row for row in read_rows(table) if row.item not in known or known[row.item].updated < row.updated]
        if newer:
            common.execute("BEGIN IMMEDIATE")
            common.executemany(_insert("states", COLUMNS), [astuple(row) for row in newer])
            common.execute("COMMIT")
