-- How the caller's leg sounded, beside the figures in call.rtp: for questions over many calls.
ALTER TABLE call ADD COLUMN codec TEXT;      -- PCMA
ALTER TABLE call ADD COLUMN loss_pct REAL;   -- packets that could not be played here, in percent
ALTER TABLE call ADD COLUMN jitter_ms REAL;
ALTER TABLE call ADD COLUMN mos REAL;        -- 1 to 4.5, estimated (E-model)
