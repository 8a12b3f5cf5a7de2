-- Makes postgres_values.json: what a real Postgres prints and sends for values of every kind.
--   psql -XAtq -f postgres_values.sql > postgres_values.json
-- Each line is one JSON object; the file as a whole is a JSON array. Needs no tables and changes nothing but its session.
SET datestyle = 'ISO'; SET timezone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET client_encoding = 'UTF8';
WITH samples(kind, text, sent) AS (
            SELECT 'bool', format('%s', v), boolsend(v) FROM (VALUES (true), (false)) q(v)
  UNION ALL SELECT 'int2', format('%s', v), int2send(v) FROM (VALUES ('0'::int2), ('-32768'), ('32767')) q(v)
  UNION ALL SELECT 'int4', format('%s', v), int4send(v) FROM (VALUES ('0'::int4), ('-2147483648'), ('2147483647')) q(v)
  UNION ALL SELECT 'int8', format('%s', v), int8send(v) FROM (VALUES ('0'::int8), ('-9223372036854775808'), ('9223372036854775807')) q(v)
  UNION ALL SELECT 'float4', format('%s', v), float4send(v) FROM (VALUES ('0'::float4), ('-0'), ('0.1'), ('123456'), ('1e6'), ('16777216'),
            ('3.4028235e+38'), ('1e-45'), ('1.2138799e+08'), ('8388608'), ('5.049795e+07'), ('-2.775828e+08'), ('NaN'), ('Infinity'), ('-Infinity')) q(v)
  UNION ALL SELECT 'float8', format('%s', v), float8send(v) FROM (VALUES ('0'::float8), ('-0'), ('0.1'), ('0.0001'), ('0.00001'), ('123456789012345'),
            ('1e15'), ('1e100'), ('5e-324'), ('1.7976931348623157e+308'), ('1125899906842624.25'), ('5.684341886080802e-14'), ('2.2250738585072014e-308'),
            ('9007199254740993'), ('5.1008897003e+18'), ('4.7942e+21'), ('2.61252e+21'), ('2.645053110921492e+17'), ('6.336888545313882e+16'), ('9.5367431640625e-07'), ('NaN'), ('Infinity'), ('-Infinity')) q(v)
  UNION ALL SELECT 'numeric', format('%s', v), numeric_send(v) FROM (VALUES ('0'::numeric), ('0.000'), ('-1.50'), ('9999'), ('10000'), ('99990000'), ('1e20'),
            ('0.0001'), ('0.00010'), ('-0.00001234'), ('120345.67890'), ('123456789012345678901234567890.123456789'), ('NaN'), ('Infinity'), ('-Infinity')) q(v)
  UNION ALL SELECT 'uuid', format('%s', v), uuid_send(v) FROM (VALUES ('0123abcd-4567-89ef-0123-456789abcdef'::uuid)) q(v)
  UNION ALL SELECT 'timestamp', format('%s', v), timestamp_send(v) FROM (VALUES ('2000-01-01'::timestamp), ('1969-12-31 23:59:59.999999'),
            ('2024-02-29 12:34:56.789'), ('0001-12-31 23:59:59 BC'), ('4714-11-24 00:00:00 BC'), ('12345-01-01'), ('294246-12-31 23:59:59.999999'),
            ('294276-12-31 23:59:59.999999'), ('infinity'), ('-infinity')) q(v)
  UNION ALL SELECT 'timestamptz', format('%s', v), timestamptz_send(v) FROM (VALUES ('2000-01-01 00:00+00'::timestamptz), ('0044-03-15 12:00+00 BC'),
            ('2024-05-17 09:31:44.123456+00'), ('99999-12-31 00:00+00'), ('infinity'), ('-infinity')) q(v)
  UNION ALL SELECT 'date', format('%s', v), date_send(v) FROM (VALUES ('2000-01-01'::date), ('1984-02-29'), ('0001-01-01'), ('0001-12-31 BC'),
            ('4714-11-24 BC'), ('10000-01-01'), ('5874897-12-31'), ('infinity'), ('-infinity')) q(v)
  UNION ALL SELECT 'time', format('%s', v), time_send(v) FROM (VALUES ('00:00'::time), ('12:34:56.7'), ('23:59:59.999999'), ('24:00:00')) q(v)
  UNION ALL SELECT 'bytea', format('%s', v), byteasend(v) FROM (VALUES (''::bytea), ('\x00ff5c')) q(v)
  UNION ALL SELECT 'text', format('%s', v), textsend(v) FROM (VALUES (''), ('é😀'), (E'tab\tline\nquote"\\')) q(v)
  UNION ALL SELECT 'text', bpcharout(v)::text, bpcharsend(v) FROM (VALUES ('ab'::char(5))) q(v)
  UNION ALL SELECT 'text', format('%s', v), json_send(v) FROM (VALUES ('{ "b" : 1, "b" : 2 }'::json)) q(v)
  UNION ALL SELECT 'jsonb', format('%s', v), jsonb_send(v) FROM (VALUES ('{ "b" : 1, "a" : [null, "\u00e9"] }'::jsonb), ('1e3')) q(v)
  UNION ALL SELECT 'inet', format('%s', v), inet_send(v) FROM (VALUES ('10.0.0.1'::inet), ('10.0.0.1/8'), ('::'), ('::1'), ('::2'), ('::1.2.3.4'),
            ('::ffff:1.2.3.4'), ('::ffff:0:1.2.3.4'), ('::1:0'), ('1::'), ('2001:db8::1:0:0:1/64'), ('1:0:2:0:3:0:4:0')) q(v)
  UNION ALL SELECT 'inet', format('%s', v), cidr_send(v) FROM (VALUES ('10.0.0.1'::cidr), ('10.0.0.0/8'), ('::/0'), ('::1')) q(v)
  UNION ALL SELECT 'macaddr', format('%s', v), macaddr_send(v) FROM (VALUES ('08:00:2b:01:02:ff'::macaddr)) q(v)
  UNION ALL SELECT 'text[]', format('%s', v), array_send(v) FROM (VALUES ('{}'::text[]), (ARRAY['a', NULL, 'NULL', 'null', '', ' ', 'a b', 'a,b', '{}', 'a"b\c',
            E'\v', 'é', '[1]']), ('[2:3]={a,b}'), ('[-1:0][3:4]={{a,b},{NULL,"d e"}}'), ('{{a,b},{c,d}}'), ('{{{a},{b}}}'), ('[0:0]={NULL}')) q(v)
  UNION ALL SELECT 'jsonb[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY['{"property": "a\\b", "values": ["\"", 1]}'::jsonb, NULL, 'null', '"NULL"']),
            (ARRAY[['{}'::jsonb, '[1,2]']])) q(v)
  UNION ALL SELECT 'int4[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY[1, NULL, -1]), ('{{1,2},{3,4}}')) q(v)
  UNION ALL SELECT 'int8[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY[9223372036854775807])) q(v)
  UNION ALL SELECT 'int2[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY[1::int2, NULL])) q(v)
  UNION ALL SELECT 'bool[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY[true, NULL, false]), (ARRAY[[true]])) q(v)
  UNION ALL SELECT 'float8[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY[0.1::float8, 'NaN', 'Infinity', NULL]), (ARRAY[[1e15::float8, '-0', 1e-5]])) q(v)
  UNION ALL SELECT 'float4[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY[0.1::float4, NULL]), (ARRAY[[1e6::float4, 0.1]])) q(v)
  UNION ALL SELECT 'numeric[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY[1.50, NULL, 'NaN']), (ARRAY[[1.50, -1e20]])) q(v)
  UNION ALL SELECT 'uuid[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY['0123abcd-4567-89ef-0123-456789abcdef'::uuid, NULL])) q(v)
  UNION ALL SELECT 'timestamp[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY['2024-02-29 12:34:56.7'::timestamp, NULL, 'infinity']),
            (ARRAY[['0001-12-31 BC'::timestamp]])) q(v)
  UNION ALL SELECT 'timestamptz[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY['2024-02-29 12:34:56.7+00'::timestamptz]), (ARRAY[['0001-12-31 00:00+00 BC'::timestamptz]])) q(v)
  UNION ALL SELECT 'date[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY['2024-02-29'::date, '-infinity']), (ARRAY[['0001-12-31 BC'::date]])) q(v)
  UNION ALL SELECT 'time[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY['24:00'::time, NULL]), (ARRAY[['00:00:00.5'::time]])) q(v)
  UNION ALL SELECT 'bytea[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY['\x00ff'::bytea, '', NULL]), (ARRAY[['\x5c22'::bytea]])) q(v)
  UNION ALL SELECT 'inet[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY['::1'::inet, NULL, '10.0.0.0/8']), (ARRAY[['10.0.0.1'::inet]])) q(v)
  UNION ALL SELECT 'macaddr[]', format('%s', v), array_send(v) FROM (VALUES (ARRAY['08:00:2b:01:02:ff'::macaddr])) q(v)
)
SELECT E'[\n' || string_agg(json_build_object('kind', kind, 'text', text, 'binary', encode(sent, 'hex'))::text, E',\n') || E'\n]' FROM samples;
