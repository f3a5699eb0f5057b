CREATE TABLE IF NOT EXISTS loader.indexes (
	load TEXT NOT NULL,
	name TEXT NOT NULL,
	place BIGINT NOT NULL,
	ddl TEXT NOT NULL,
	PRIMARY KEY (load, name));
