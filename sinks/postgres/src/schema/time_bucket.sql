-- TimescaleDB's function, for servers without it: the start of the bucket in which a time lies. Buckets of weeks begin
-- on Mondays, as there.
CREATE OR REPLACE FUNCTION netflow.time_bucket(bucket_width interval, ts timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS
$$ SELECT date_bin(bucket_width, ts, timestamptz '2000-01-03 00:00:00+00') $$;

DO $do$
BEGIN
    IF has_schema_privilege('public', 'CREATE') THEN
        CREATE OR REPLACE FUNCTION public.time_bucket(bucket_width interval, ts timestamptz)
        RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS
        $$ SELECT date_bin(bucket_width, ts, timestamptz '2000-01-03 00:00:00+00') $$;
        COMMENT ON FUNCTION public.time_bucket(interval, timestamptz) IS 'made by rgz-netflow; dropped when TimescaleDB comes';
    END IF;
END
$do$;
