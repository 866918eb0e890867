-- Why a call ended is told in both languages of its administrators.

ALTER TABLE call ADD COLUMN reason_zh TEXT;
