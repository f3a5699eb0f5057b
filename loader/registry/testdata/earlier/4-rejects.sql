CREATE TABLE IF NOT EXISTS loader.rejects (
	load TEXT NOT NULL,
	position BIGINT NOT NULL,
	file TEXT NOT NULL,
	line BIGINT NOT NULL,
	byte BIGINT NOT NULL,
	column_name TEXT NOT NULL,
	code TEXT NOT NULL,
	reason TEXT NOT NULL,
	record BYTEA NOT NULL,
	PRIMARY KEY (load, position));
