CREATE TABLE IF NOT EXISTS loader.tuning (
	target TEXT NOT NULL,
	what TEXT NOT NULL,
	chunk BIGINT NOT NULL,
	workers BIGINT NOT NULL,
	via TEXT NOT NULL,
	way TEXT NOT NULL,
	origin TEXT NOT NULL,
	updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
	PRIMARY KEY (target, what));
