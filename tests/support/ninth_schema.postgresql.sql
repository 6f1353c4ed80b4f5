CREATE TABLE public.actions (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    who character varying NOT NULL,
    via character varying NOT NULL,
    what character varying NOT NULL,
    arguments text NOT NULL,
    run bigint,
    count bigint NOT NULL,
    reason character varying,
    result text NOT NULL,
    key character varying
);
CREATE SEQUENCE public.actions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.actions_id_seq OWNED BY public.actions.id;
CREATE TABLE public.alembic_version_catalog (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.alembic_version_receiver (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.attempts (
    delivery_id bigint NOT NULL,
    ended_at timestamp with time zone NOT NULL,
    number integer NOT NULL,
    worker character varying NOT NULL,
    reason character varying,
    round integer DEFAULT 1 NOT NULL,
    failed boolean DEFAULT true NOT NULL,
    handler character varying,
    release character varying,
    hydrate_us integer,
    handle_us integer,
    settle_us integer,
    traceback character varying
);
CREATE TABLE public.bodies (
    delivery_id bigint NOT NULL,
    body bytea NOT NULL,
    plain bytea,
    headers text NOT NULL
);
CREATE TABLE public.categories (
    source character varying NOT NULL,
    external_id character varying NOT NULL,
    active boolean NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    deactivated_at timestamp with time zone,
    tie boolean NOT NULL,
    versions character varying NOT NULL,
    sku character varying,
    name character varying,
    price numeric,
    currency character varying,
    parent character varying,
    lifecycle_state character varying,
    data text
);
CREATE TABLE public.changes (
    seq bigint NOT NULL,
    "table" character varying NOT NULL,
    source character varying NOT NULL,
    external_id character varying NOT NULL,
    operation character varying NOT NULL,
    before text NOT NULL,
    after text NOT NULL,
    delivery_id bigint,
    changed_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL
);
CREATE SEQUENCE public.changes_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.changes_seq_seq OWNED BY public.changes.seq;
CREATE TABLE public.dedup_keys (
    source character varying NOT NULL,
    dedup_key character varying NOT NULL,
    fingerprint bytea NOT NULL,
    delivery_id bigint NOT NULL
);
CREATE TABLE public.deliveries (
    id bigint NOT NULL,
    source character varying NOT NULL,
    event_type character varying,
    entity_kind character varying,
    entity_id character varying,
    occurred_at timestamp with time zone,
    received_at timestamp with time zone NOT NULL,
    state character varying NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone NOT NULL,
    suspect boolean DEFAULT false NOT NULL,
    claimed_by character varying,
    lease_until timestamp with time zone,
    outcome character varying,
    reason character varying,
    ended_at timestamp with time zone,
    dedup_key character varying NOT NULL,
    conflict boolean NOT NULL,
    duplicates integer DEFAULT 0 NOT NULL,
    secret integer,
    round integer DEFAULT 1 NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='50000');
CREATE TABLE public.groups (
    source character varying NOT NULL,
    external_id character varying NOT NULL,
    active boolean NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    deactivated_at timestamp with time zone,
    tie boolean NOT NULL,
    versions character varying NOT NULL,
    sku character varying,
    name character varying,
    price numeric,
    currency character varying,
    parent character varying,
    lifecycle_state character varying,
    data text
);
CREATE TABLE public.identity (
    id integer NOT NULL,
    name character varying NOT NULL
);
CREATE TABLE public.options (
    source character varying NOT NULL,
    external_id character varying NOT NULL,
    active boolean NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    deactivated_at timestamp with time zone,
    tie boolean NOT NULL,
    versions character varying NOT NULL,
    sku character varying,
    name character varying,
    price numeric,
    currency character varying,
    parent character varying,
    lifecycle_state character varying,
    data text
);
CREATE TABLE public.processes (
    name character varying NOT NULL,
    host character varying NOT NULL,
    pid integer NOT NULL,
    kind character varying NOT NULL,
    release character varying NOT NULL,
    revision character varying NOT NULL,
    fingerprint character varying NOT NULL,
    wiring text NOT NULL,
    started_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    settings text
);
CREATE TABLE public.products (
    source character varying NOT NULL,
    external_id character varying NOT NULL,
    active boolean NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    deactivated_at timestamp with time zone,
    tie boolean NOT NULL,
    versions character varying NOT NULL,
    sku character varying,
    name character varying,
    price numeric,
    currency character varying,
    parent character varying,
    lifecycle_state character varying,
    data text
);
CREATE TABLE public.reconciles (
    source character varying NOT NULL,
    noticed_at timestamp with time zone NOT NULL,
    run character varying,
    holder character varying,
    lease_until timestamp with time zone,
    mark text,
    scheduled boolean DEFAULT false NOT NULL,
    began_at timestamp with time zone,
    ended_at timestamp with time zone,
    error character varying
);
CREATE TABLE public.records (
    source character varying NOT NULL,
    external_id character varying NOT NULL,
    active boolean NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    deactivated_at timestamp with time zone,
    tie boolean NOT NULL,
    versions character varying NOT NULL,
    sku character varying,
    name character varying,
    price numeric,
    currency character varying,
    parent character varying,
    lifecycle_state character varying,
    data text,
    kind character varying
);
CREATE TABLE public.rounds (
    delivery_id bigint NOT NULL,
    number integer NOT NULL,
    cause character varying NOT NULL,
    run bigint,
    action bigint,
    began_at timestamp with time zone NOT NULL,
    state character varying,
    outcome character varying,
    reason character varying,
    ended_at timestamp with time zone
);
CREATE TABLE public.run_deliveries (
    run bigint NOT NULL,
    delivery_id bigint NOT NULL,
    state character varying NOT NULL,
    forecast character varying,
    forecast_reason character varying,
    outcome character varying,
    reason character varying
);
CREATE TABLE public.run_rows (
    run bigint NOT NULL,
    "table" character varying NOT NULL,
    source character varying NOT NULL,
    external_id character varying NOT NULL,
    operation character varying NOT NULL,
    before text NOT NULL,
    after text NOT NULL
);
CREATE TABLE public.run_turns (
    kind character varying NOT NULL,
    source character varying NOT NULL,
    run bigint NOT NULL
);
CREATE TABLE public.runs (
    id bigint NOT NULL,
    kind character varying NOT NULL,
    sources text NOT NULL,
    arguments text NOT NULL,
    state character varying NOT NULL,
    total bigint NOT NULL,
    done bigint NOT NULL,
    tally text NOT NULL,
    mark text,
    forecast text,
    release character varying NOT NULL,
    wiring character varying NOT NULL,
    planned_by character varying NOT NULL,
    planned_at timestamp with time zone NOT NULL,
    started_by character varying,
    started_at timestamp with time zone,
    reason character varying,
    ended_at timestamp with time zone,
    trouble character varying,
    fed_by character varying,
    fed_until timestamp with time zone
);
CREATE SEQUENCE public.runs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.runs_id_seq OWNED BY public.runs.id;
CREATE TABLE public.seen (
    run character varying NOT NULL,
    "table" character varying NOT NULL,
    external_id character varying NOT NULL,
    walk integer NOT NULL,
    active boolean
);
CREATE TABLE public.variants (
    source character varying NOT NULL,
    external_id character varying NOT NULL,
    active boolean NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    deactivated_at timestamp with time zone,
    tie boolean NOT NULL,
    versions character varying NOT NULL,
    sku character varying,
    name character varying,
    price numeric,
    currency character varying,
    parent character varying,
    lifecycle_state character varying,
    data text
);
ALTER TABLE ONLY public.actions ALTER COLUMN id SET DEFAULT nextval('public.actions_id_seq'::regclass);
ALTER TABLE ONLY public.changes ALTER COLUMN seq SET DEFAULT nextval('public.changes_seq_seq'::regclass);
ALTER TABLE ONLY public.runs ALTER COLUMN id SET DEFAULT nextval('public.runs_id_seq'::regclass);
INSERT INTO public.actions VALUES (1, '2026-11-30 14:07:41.367196+00', 'api', 'api', 'replay', '{"delivery":"1839152801945292784"}', NULL, 1, NULL, '{"status":"pending","deliveries":1}', NULL);
INSERT INTO public.actions VALUES (2, '2026-11-30 14:07:41.378841+00', 'api', 'api', 'replay', '{"delivery":"1839152801943729136"}', NULL, 1, NULL, '{"status":"pending","deliveries":1}', NULL);
INSERT INTO public.actions VALUES (3, '2026-11-30 14:07:41.38681+00', 'api', 'api', 'replay', '{"delivery":"1839152801918801904"}', NULL, 1, NULL, '{"status":"pending","deliveries":1}', NULL);
INSERT INTO public.actions VALUES (4, '2026-11-30 14:07:43.407015+00', 'api', 'api', 'plan replay', '{"source":"sigma","state":"processed"}', 1, 0, NULL, '{"run":"1","state":"planning"}', NULL);
INSERT INTO public.actions VALUES (5, '2026-11-30 14:07:43.433067+00', 'api', 'api', 'plan replay', '{"source":"sticky","state":"processed"}', 2, 0, NULL, '{"run":"2","state":"planning"}', NULL);
INSERT INTO public.actions VALUES (6, '2026-11-30 14:07:43.440961+00', 'api', 'api', 'plan replay', '{"source":"sigma","state":"dead"}', 3, 0, NULL, '{"run":"3","state":"planning"}', NULL);
INSERT INTO public.actions VALUES (7, '2026-11-30 14:07:43.449352+00', 'api', 'api', 'plan replay', '{"source":"indexed","state":"processed"}', 4, 0, NULL, '{"run":"4","state":"planning"}', NULL);
INSERT INTO public.actions VALUES (8, '2026-11-30 14:07:45.186058+00', 'api', 'api', 'start run', '{"run":"1"}', 1, 3, 'fixed', '{"run":"1","state":"running"}', NULL);
INSERT INTO public.actions VALUES (9, '2026-11-30 14:07:46.297459+00', 'api', 'api', 'cancel run', '{"run":"2"}', 2, 1, 'not wanted now', '{"run":"2","state":"cancelled"}', NULL);
INSERT INTO public.actions VALUES (10, '2026-11-30 14:07:46.345366+00', 'api', 'api', 'start run', '{"run":"4"}', 4, 1, 'again', '{"run":"4","state":"running"}', NULL);
INSERT INTO public.actions VALUES (11, '2026-11-30 14:07:46.358273+00', 'api', 'api', 'pause run', '{"run":"4"}', 4, 1, 'later', '{"run":"4","state":"paused"}', NULL);
INSERT INTO public.actions VALUES (12, '2026-11-30 14:07:52.582511+00', 'api', 'api', 'start run', '{"run":"3"}', 3, 1, 'after a fix', '{"run":"3","state":"running"}', NULL);
INSERT INTO public.actions VALUES (13, '2026-11-30 14:07:52.664304+00', 'api', 'api', 'resume run', '{"run":"4"}', 4, 1, 'after a fix', '{"run":"4","state":"running"}', NULL);
INSERT INTO public.actions VALUES (14, '2026-11-30 14:07:52.717612+00', 'api', 'api', 'plan replay', '{"source":"sticky","state":"processed"}', 5, 0, NULL, '{"run":"5","state":"planning"}', NULL);
INSERT INTO public.alembic_version_catalog VALUES ('0002');
INSERT INTO public.alembic_version_receiver VALUES ('0009');
INSERT INTO public.attempts VALUES (1839152795341379568, '2026-11-30 14:07:31.774732+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.sigma.upsert_entity', '0.1.0', NULL, 126, 67847, NULL);
INSERT INTO public.attempts VALUES (1839152795396610032, '2026-11-30 14:07:31.774732+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.iimmpact.upsert_group', '0.1.0', NULL, 43, 67847, NULL);
INSERT INTO public.attempts VALUES (1839152795396618224, '2026-11-30 14:07:31.774732+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.sticky.upsert_product', '0.1.0', NULL, 52, 67847, NULL);
INSERT INTO public.attempts VALUES (1839152795396619248, '2026-11-30 14:07:31.774732+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.indexed.upsert', '0.1.0', NULL, 60, 67847, NULL);
INSERT INTO public.attempts VALUES (1839152801852082160, '2026-11-30 14:07:38.072845+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.sigma.upsert_entity', '0.1.0', NULL, 46, 1646, NULL);
INSERT INTO public.attempts VALUES (1839152801863891952, '2026-11-30 14:07:38.114306+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.sigma.upsert_entity', '0.1.0', NULL, 47, 11904, NULL);
INSERT INTO public.attempts VALUES (1839152801925933040, '2026-11-30 14:07:38.137854+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.iimmpact.upsert_product', '0.1.0', NULL, 48, 3275, NULL);
INSERT INTO public.attempts VALUES (1839152801928910832, '2026-11-30 14:07:38.146907+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.iimmpact.upsert_product', '0.1.0', NULL, 40, 5126, NULL);
INSERT INTO public.attempts VALUES (1839152801930841072, '2026-11-30 14:07:38.146907+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.iimmpact.upsert_product', '0.1.0', NULL, 13, 5126, NULL);
INSERT INTO public.attempts VALUES (1839152801935398896, '2026-11-30 14:07:38.146907+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.iimmpact.upsert_product', '0.1.0', NULL, 10, 5126, NULL);
INSERT INTO public.attempts VALUES (1839152801937544176, '2026-11-30 14:07:38.160766+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.iimmpact.deactivate', '0.1.0', NULL, 72, 9805, NULL);
INSERT INTO public.attempts VALUES (1839152801943729136, '2026-11-30 14:07:38.160766+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.iimmpact.upsert_product', '0.1.0', NULL, 32, 9805, NULL);
INSERT INTO public.attempts VALUES (1839152801945292784, '2026-11-30 14:07:38.160766+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 1, false, 'handlers.iimmpact.upsert_product', '0.1.0', NULL, 17, 9805, NULL);
INSERT INTO public.attempts VALUES (1839152801943729136, '2026-11-30 14:07:41.443009+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 2, false, 'handlers.iimmpact.upsert_product', '0.1.0', NULL, 64, 3415, NULL);
INSERT INTO public.attempts VALUES (1839152801945292784, '2026-11-30 14:07:41.443009+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 2, false, 'handlers.iimmpact.upsert_product', '0.1.0', NULL, 22, 3415, NULL);
INSERT INTO public.attempts VALUES (1839152801918801904, '2026-11-30 14:07:41.473569+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', 'The body is not what the dialect expects: timestamp: Value error, a time is ISO 8601 text.', 2, true, NULL, '0.1.0', NULL, NULL, 19116, NULL);
INSERT INTO public.attempts VALUES (1839152795341379568, '2026-11-30 14:07:45.670813+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 2, false, 'handlers.sigma.upsert_entity', '0.1.0', NULL, 64, 4561, NULL);
INSERT INTO public.attempts VALUES (1839152801852082160, '2026-11-30 14:07:45.670813+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 2, false, 'handlers.sigma.upsert_entity', '0.1.0', NULL, 16, 4561, NULL);
INSERT INTO public.attempts VALUES (1839152801863891952, '2026-11-30 14:07:45.670813+00', 1, 'erp.example:235ef2484e:26348:286083:c117a801', NULL, 2, false, 'handlers.sigma.upsert_entity', '0.1.0', NULL, 10, 4561, NULL);
INSERT INTO public.bodies VALUES (1839152795341379568, '\x7b226576656e74223a22656e746974792e63726561746564222c2264656c69766572794964223a2264656c2d663439626562373965643262222c2274696d657374616d70223a22323032362d31312d33305431343a30373a33372e3931355a222c2264617461223a7b22656e746974794964223a22656e742d6e6f726469632d6a61636b65742d3433322d373736622d30222c22736368656d614964223a22736368656d612d6f7574646f6f72222c226c6966656379636c655374617465223a226472616674222c22637265617465644279223a22757365722d61646d696e227d7d', NULL, '{"content-type":"application/json","x-sigma-signature":"sha256=10e6390e93f8cbf906b70ffef70a7cb712fe60f2ce5032e2854d27857f7313f3","x-sigma-event":"entity.created","x-sigma-delivery":"del-f49beb79ed2b"}');
INSERT INTO public.bodies VALUES (1839152795396610032, '\x7b2274797065223a2267726f75702e63726561746564222c227265736f75726365223a2267726f757073222c226964223a22434f415354414c42494359434c4535353230222c2274696d657374616d70223a22323032362d31312d33305431343a30373a33372e3931355a222c2264617461223a7b226964223a22434f415354414c42494359434c4535353230222c226e616d65223a22436f617374616c2042696379636c6520353532222c2269636f6e5f75726c223a2268747470733a2f2f696d616765732e6578616d706c652e636f6d2f434f415354414c42494359434c45353532302e706e67227d7d', NULL, '{"content-type":"application/json","x-webhook-signature":"sha256=6050ceff243be49324149bce39f1c379b7c2eb1230a8ca90fbd2f3909ec4a72d"}');
INSERT INTO public.bodies VALUES (1839152795396618224, '\x6f416e366234567a56782b2f54557342376978534d66366d4e693450753551386b4f74505251596b50586b4370455a627552714a416a6139305a647a50775356554e493962776f654f5359754d54724a6e6f6d5138686b356b426741684b7732576a472f786f42636d417264426d4f3971364e7567314536484f6f41674733434d654f694e5a5451413255343056666b3452656d4b495730334779473555536467596771757765684e5839426456396a57594e4144666b546b474e4c6145656b46575356306b37793767734b4165315864327754346f667838493463304967664b4b7966785a435a516a7a47336856635a7577494b67516c53384752525a793436514e49695869326231526b576e495a444974547546796567642b72384d35426256346c3851346a594e68724b78363862795876562b7a537a427159432f353046675a6f4b3258454c66452b7132674c2b6f434b4e2b446a6a38687a36746c794355766a656e456b613670345a77534436476a55616b4f796f354e4f6b755a4a6668422f47547a346c49646a35634a7751324a79734d674163356e6c6579366e753672762f794735366138425255715574794f4c4c7a61535853315243536845554c43536e653170687a30626c6b494762764530496f42646438413548422f54506c2f4c776f70455a5156396c675a3930506b4e6d3755746d426f2b774b5a657a31384b58434f59555a51456952546c6f30584671454c2b547a5358795a47617a364a436b4a426e36536773685162374f69414268633936424e7072366141674b6d726c335a5039394136684c443357467137526c7468627175756e426d51634953464c5a6f7639634f697562707759762b4d316261353865756c6839495047397078522f797a6d61596d514f517062497336434b49756c4549665a38576863784e45782b7a594246344151354b3344644f587667526c4f4462644b515344366f6957346e6a494e32303830462f76426b33794f307452744f50414c4c4f76373474656c596d39437a3650566966474b63614e7158527a736a617456516e2b5163614a4c655476375377454a4b3263774e51306c437057646f633939654232564a424f505841666e695450396151325077655936564a525361346772345257514365346d436e6b43494941364150524d59766d36392b6f6a6834386c52494a455671687a5832783334634e7a536a54714b364f357057575a684b533335544c422b4e366f383641573176684630757845507a7a744564714e5837585243634d73707366545353576250376c524a55544539704f58437a45334d545142587061336336412b574d336434784a6956724c614a727434414a57416744734f6b59596f6a59766545386861364a48654b425849316b645865375a353962444e75724e6b767a6e554c766567394271314e757241495a742f71676c577434307673474f5a4545456e75562b2f4b374773747663457046634d704770414c6e744e54744c754871334e6565676d596c37333675484f2b556d6f73493631346659434163763138674b6962764634774b7143637953747043386b4d58442f6169415056336b3031432f4e2b356359755748706b56423750726b6b5a3639313149644e392f6634743775344868504b6577746444302b6a5033622f794c457330316845724c774348357362593031677a465747335a4e302f34782f4874576454416c6570375650444b4764647179364354375865574736435655567666442f394c6b2f6169796d', '\x7b22636c69656e744170704b6579223a22286e6f742073746f72656429222c2274797065223a2270726f647563742e63726561746564222c2274696d65223a22323032362d31312d33302030393a30373a3337222c2264617461223a7b226964223a2264623836393964392d366632622d343131322d623036652d383064343832653666666635222c226f626a656374223a7b226964223a32312c226e616d65223a224e6f726469632042696379636c6520373230222c22736b75223a2251524e4a464e4d4d3452222c22766572746963616c223a7b226964223a322c226e616d65223a22486f6d65227d2c2263617465676f7279223a7b226964223a352c226e616d65223a224d6167617a696e65222c226465736372697074696f6e223a224d61673031227d2c226d61785f7175616e74697479223a31302c226465736372697074696f6e223a224120616c70696e6520686561647365742c207265642e222c22696d61676573223a5b5d2c22637573746f6d5f6669656c6473223a5b7b226964223a312c226669656c645f747970655f6964223a312c226e616d65223a226d6174657269616c222c22746f6b656e5f6b6579223a22746573745f70726f647563745f6669656c64222c2269735f6d756c7469223a302c22747970655f6964223a332c2276616c756573223a5b7b226f7074696f6e5f6964223a302c2276616c7565223a226d6174657269616c203231222c226e616d65223a226d6174657269616c227d5d7d5d2c2269735f74617861626c65223a312c227461785f636f6465223a22313233343536414243222c226469676974616c5f646f776e6c6f61645f75726c223a22222c2269735f736869707061626c65223a312c22637265617465645f6174223a22323032362d31312d33305430393a30373a33372d30353a3030222c22757064617465645f6174223a22323032362d31312d33305430393a30373a33372d30353a3030222c2274797065223a2270726f64756374222c227072696365223a223132392e33393030222c22636f73745f6f665f676f6f6473223a22302e3030222c22726573746f636b696e675f666565223a22302e3030222c2276617269616e7473223a5b5d7d2c2263726561746564223a22323032362d31312d33302030393a30373a3337222c2274726967676572696e674576656e74223a22222c22636f7272656c6174696f6e4964223a2236366538353462622d303030302d343531332d613936612d363762623935323134376163227d7d', '{"content-type":"application/json"}');
INSERT INTO public.bodies VALUES (1839152795396619248, '\x7b226576656e74223a226f726465722e63726561746564222c2274696d657374616d70223a22323032362d31312d33305431343a30373a33372b30303a3030222c226163636f756e74223a7b2265787465726e616c5f6964223a226163635f3739663065346433222c226e616d65223a224578616d706c6520436f6d70616e79227d2c22617070223a7b2265787465726e616c5f6964223a226170705f70726f6475637473222c226e616d65223a2250726f6475637473227d2c22776562686f6f6b223a7b2265787465726e616c5f6964223a227765625f386663613062626234653962227d2c226f72646572223a7b226964223a34312c2265787465726e616c4964223a226f7264655f3137666263615f3431222c226e756d626572223a22534f2d3334373139222c22746f74616c223a3739322e33362c22737461747573223a22646973636f6e74696e756564222c22637265617465644174223a22323032362d31312d33305431343a30373a33372b30303a3030222c22757064617465644174223a22323032362d31312d33305431343a30373a33372b30303a3030227d7d', NULL, '{"content-type":"application/json","x-webhook-signature":"sha256=65748344d5a8533fca52b79d475524eb2b7fa6b20da16867e7c8cc3cbf489518"}');
INSERT INTO public.bodies VALUES (1839152801852082160, '\x7b226576656e74223a22656e746974792e75706461746564222c2264656c69766572794964223a2264656c2d636f6e66222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30302e3132355a222c2264617461223a7b22656e746974794964223a224331222c22736368656d614964223a2273227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-sigma-signature":"sha256=f6bfad2bdd9e6b976c98ff284bbf9b48616db2ff828b42ad7db25e2ea97b0303"}');
INSERT INTO public.bodies VALUES (1839152801863891952, '\x7b226576656e74223a22656e746974792e75706461746564222c2264656c69766572794964223a2264656c2d636f6e66222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30302e3132355a222c2264617461223a7b22656e746974794964223a224332222c22736368656d614964223a2273227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-sigma-signature":"sha256=b6b519c47d77cb75ffeed28e73dfda347d670c0a7bf01faa1a7009df26eed6ba"}');
INSERT INTO public.bodies VALUES (1839152801903770608, '\x7b226576656e74223a226e6f7468696e672e6b6e6f776e222c2264656c69766572794964223a2264656c2d69676e222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30302e3132355a222c2264617461223a7b22656e746974794964223a224333227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-sigma-signature":"sha256=e6e6485f2d405d4cd3ed584dad63c63a129b93b65ebc89ac484564db3423bb49"}');
INSERT INTO public.bodies VALUES (1839152801910979568, '\x6e6f74206a736f6e20617420616c6c', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-sigma-signature":"sha256=e7e6370417b2969de7ebd9a5cdeaf71cadc827022ca93fb9f6423854084e758b"}');
INSERT INTO public.bodies VALUES (1839152801918801904, '\x7b2274797065223a2270726f647563742e75706461746564222c226964223a224e4f44415441222c2274696d657374616d70223a226e6f6e73656e7365222c2264617461223a7b7d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=ea6aa5627e8ba4c88c351c6348e0738138c230a1f7c8f6665f6085e9722104a6"}');
INSERT INTO public.bodies VALUES (1839152801925933040, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22544945222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a22544945222c22646973706c61795f6e616d65223a2241227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=d9469388e241b55c5304bf75071f56ea435f0ccddf096dd86f15b52668b12551"}');
INSERT INTO public.bodies VALUES (1839152801928910832, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22544945222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a22544945222c22646973706c61795f6e616d65223a2242227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=17a2c2f7fdab9b50c05d1fd8fdb4f457da566b23d35b66fe07f65c04af1201de"}');
INSERT INTO public.bodies VALUES (1839152801930841072, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a225354414c45222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a225354414c45222c22646973706c61795f6e616d65223a2241227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=e5b9552b135fbb42067e48163de874077828272990d3892183b8d43d58af0b3b"}');
INSERT INTO public.bodies VALUES (1839152801935398896, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a225354414c45222c2274696d657374616d70223a22323032362d31312d31395430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a225354414c45222c22646973706c61795f6e616d65223a2242227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=c9132a1b3bfb50b7527487903f3b0bbf5365e3fed2465f56181e425d0868b88b"}');
INSERT INTO public.bodies VALUES (1839152801937544176, '\x7b2274797065223a2270726f647563742e64656c65746564222c227265736f75726365223a2270726f6475637473222c226964223a22474f4e45222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a6e756c6c7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=8bd40c18794b21ef61a11539ab99a707e63882113ce2a0af1798e6f1be6f9bd8"}');
INSERT INTO public.bodies VALUES (1839152801943729136, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22c3bc5c753030303078222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a224e554c222c22646973706c61795f6e616d65223a22615c753030303062227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=10bb6cd1615aeb05e4b7550f86b4d7b8858d74ecb18c204701a4398afaa0b0e9"}');
INSERT INTO public.bodies VALUES (1839152801945292784, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a2248554745222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a2248222c22646973706c61795f6e616d65223a2268222c2278223a31653430307d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=e7dd48a1601be0e267e22bfca0ab185de63a2082e7b9258a8a1254cb9d874650"}');
INSERT INTO public.bodies VALUES (1839152816650655893, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22574149545330222c2274696d657374616d70223a22323032362d31312d32315430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a2257222c22646973706c61795f6e616d65223a2257227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=827aa1239f6f8f6e7dd27ed6cba639fc657b74fa796c34e46fc4ceadfe939c6b"}');
INSERT INTO public.bodies VALUES (1839152816688489621, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22574149545331222c2274696d657374616d70223a22323032362d31312d32315430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a2257222c22646973706c61795f6e616d65223a2257227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=be18c25cb623faab427956e2b62421028a42ef6662f9487ceca89245d0941fb0"}');
INSERT INTO public.bodies VALUES (1839152816702894229, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22574149545332222c2274696d657374616d70223a22323032362d31312d32315430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a2257222c22646973706c61795f6e616d65223a2257227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=b063e109627e436cc76fec789e71a23821df72598c54841095ac77f86e0c4ede"}');
INSERT INTO public.bodies VALUES (1839152816714507413, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22574149545333222c2274696d657374616d70223a22323032362d31312d32315430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a2257222c22646973706c61795f6e616d65223a2257227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=7cac6465d90e88ea4ef6dfff8a30d7bff452db3d405496a1f33fea9d655c392f"}');
INSERT INTO public.changes VALUES (1, 'products', 'sigma', 'ent-nordic-jacket-432-776b-0', 'insert', '{}', '{"sku":null,"name":null,"price":null,"currency":null,"parent":null,"lifecycle_state":"draft","data":{"entityId":"ent-nordic-jacket-432-776b-0","schemaId":"schema-outdoor","lifecycleState":"draft","createdBy":"user-admin"},"active":true}', 1839152795341379568, '2026-11-30 14:07:37.915+00', '2026-11-30 14:07:31.774732+00');
INSERT INTO public.changes VALUES (2, 'groups', 'iimmpact', 'COASTALBICYCLE5520', 'insert', '{}', '{"sku":null,"name":"Coastal Bicycle 552","price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"id":"COASTALBICYCLE5520","name":"Coastal Bicycle 552","icon_url":"https://images.example.com/COASTALBICYCLE5520.png"},"active":true}', 1839152795396610032, '2026-11-30 14:07:37.915+00', '2026-11-30 14:07:31.774732+00');
INSERT INTO public.changes VALUES (3, 'products', 'sticky', '21', 'insert', '{}', '{"sku":"QRNJFNMM4R","name":"Nordic Bicycle 720","price":"129.3900","currency":null,"parent":"5","lifecycle_state":null,"data":{"id":21,"name":"Nordic Bicycle 720","sku":"QRNJFNMM4R","vertical":{"id":2,"name":"Home"},"category":{"id":5,"name":"Magazine","description":"Mag01"},"max_quantity":10,"description":"A alpine headset, red.","images":[],"custom_fields":[{"id":1,"field_type_id":1,"name":"material","token_key":"test_product_field","is_multi":0,"type_id":3,"values":[{"option_id":0,"value":"material 21","name":"material"}]}],"is_taxable":1,"tax_code":"123456ABC","digital_download_url":"","is_shippable":1,"created_at":"2026-11-30T09:07:37-05:00","updated_at":"2026-11-30T09:07:37-05:00","type":"product","price":"129.3900","cost_of_goods":"0.00","restocking_fee":"0.00","variants":[]},"active":true}', 1839152795396618224, '2026-11-30 14:07:37+00', '2026-11-30 14:07:31.774732+00');
INSERT INTO public.changes VALUES (4, 'records', 'indexed', 'order:orde_17fbca_41', 'insert', '{}', '{"sku":null,"name":null,"price":null,"currency":null,"parent":null,"lifecycle_state":"discontinued","data":{"id":41,"externalId":"orde_17fbca_41","number":"SO-34719","total":792.36,"status":"discontinued","createdAt":"2026-11-30T14:07:37+00:00","updatedAt":"2026-11-30T14:07:37+00:00"},"kind":"order","active":true}', 1839152795396619248, '2026-11-30 14:07:37+00', '2026-11-30 14:07:31.774732+00');
INSERT INTO public.changes VALUES (5, 'products', 'sigma', 'C1', 'insert', '{}', '{"sku":null,"name":null,"price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"entityId":"C1","schemaId":"s"},"active":true}', 1839152801852082160, '2026-11-20 09:00:00.125+00', '2026-11-30 14:07:38.072845+00');
INSERT INTO public.changes VALUES (6, 'products', 'sigma', 'C2', 'insert', '{}', '{"sku":null,"name":null,"price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"entityId":"C2","schemaId":"s"},"active":true}', 1839152801863891952, '2026-11-20 09:00:00.125+00', '2026-11-30 14:07:38.114306+00');
INSERT INTO public.changes VALUES (7, 'products', 'iimmpact', 'TIE', 'insert', '{}', '{"sku":"TIE","name":"A","price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"product_code":"TIE","display_name":"A"},"active":true}', 1839152801925933040, '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.137854+00');
INSERT INTO public.changes VALUES (8, 'products', 'iimmpact', 'TIE', 'update', '{"name":"A","data":{"product_code":"TIE","display_name":"A"}}', '{"name":"B","data":{"product_code":"TIE","display_name":"B"}}', 1839152801928910832, '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.146907+00');
INSERT INTO public.changes VALUES (9, 'products', 'iimmpact', 'STALE', 'insert', '{}', '{"sku":"STALE","name":"A","price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"product_code":"STALE","display_name":"A"},"active":true}', 1839152801930841072, '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.146907+00');
INSERT INTO public.changes VALUES (10, 'products', 'iimmpact', 'GONE', 'insert', '{}', '{"sku":null,"name":null,"price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":null,"active":false}', 1839152801937544176, '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.160766+00');
INSERT INTO public.changes VALUES (11, 'products', 'iimmpact', 'ü�x', 'insert', '{}', '{"sku":"NUL","name":"a�b","price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"product_code":"NUL","display_name":"a\u0000b"},"active":true}', 1839152801943729136, '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.160766+00');
INSERT INTO public.changes VALUES (12, 'products', 'iimmpact', 'HUGE', 'insert', '{}', '{"sku":"H","name":"h","price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"product_code":"H","display_name":"h","x":1E+400},"active":true}', 1839152801945292784, '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.160766+00');
INSERT INTO public.dedup_keys VALUES ('sigma', 'del-f49beb79ed2b', '\x4319b3e30ee4c7c05e709975ed3e46498ee438e6048870e193c3690390006e60', 1839152795341379568);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1796047657915000-82a1db9548fbe7140e810d7b13c02c35d2ef7d630bf75483cb47d4823810bb62', '\x82a1db9548fbe7140e810d7b13c02c35d2ef7d630bf75483cb47d4823810bb62', 1839152795396610032);
INSERT INTO public.dedup_keys VALUES ('indexed', '1796047657000000-3bcfad009791bb4596ad3e569dd0e62b56e6590fead112018f79aab4e10e499f', '\x3bcfad009791bb4596ad3e569dd0e62b56e6590fead112018f79aab4e10e499f', 1839152795396619248);
INSERT INTO public.dedup_keys VALUES ('sticky', '["66e854bb-0000-4513-a96a-67bb952147ac","product.created","21"]', '\xbbf01edc4b335253ecb8a018aad8de9c308c46c2488b8d94b493bfca2b3891b0', 1839152795396618224);
INSERT INTO public.dedup_keys VALUES ('sigma', 'del-conf', '\x96edebe245740558170413b8374d757bcf7928af411573105ad44d36cc23d75b', 1839152801852082160);
INSERT INTO public.dedup_keys VALUES ('sigma', 'del-conf#d64345b1e01c8d9fd4283db60c16fda09d131d97858a96e2c97b937886e78755', '\xd64345b1e01c8d9fd4283db60c16fda09d131d97858a96e2c97b937886e78755', 1839152801863891952);
INSERT INTO public.dedup_keys VALUES ('sigma', 'del-ign', '\x75f7bd5e59a123ecac3957807dd35504f5203ba933a5d1b53fe67aaf6e0cce80', 1839152801903770608);
INSERT INTO public.dedup_keys VALUES ('sigma', '92628a747890d02d1459c6eb45fd13cfa63bbb6d346412cff190297cf9c33d39', '\x92628a747890d02d1459c6eb45fd13cfa63bbb6d346412cff190297cf9c33d39', 1839152801910979568);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '7cdebc2d59f9db8f1f1ed68d035c120e07bbc5a22f292e70252302eb6595ce04', '\x7cdebc2d59f9db8f1f1ed68d035c120e07bbc5a22f292e70252302eb6595ce04', 1839152801918801904);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-8362ecfa18b457be1676ac300822eea0713ed734138f09ae0ee22795e729e4be', '\x8362ecfa18b457be1676ac300822eea0713ed734138f09ae0ee22795e729e4be', 1839152801925933040);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-58e05c14739bba0b8a3b6ee8dfccea8d133c717888d17a89f4536b113e9592f1', '\x58e05c14739bba0b8a3b6ee8dfccea8d133c717888d17a89f4536b113e9592f1', 1839152801928910832);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-688f38b51e928211c77e2d62302a77737e516ca1d974dc259d8af6a5fc21558b', '\x688f38b51e928211c77e2d62302a77737e516ca1d974dc259d8af6a5fc21558b', 1839152801930841072);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795078800000000-1f2397257c55e4c92b217905fe45be91a5d755d5556aacfd459f026fd5077173', '\x1f2397257c55e4c92b217905fe45be91a5d755d5556aacfd459f026fd5077173', 1839152801935398896);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-f49d1312709717a92e702627b56c9788438b09693365f62aab9bd72145178927', '\xf49d1312709717a92e702627b56c9788438b09693365f62aab9bd72145178927', 1839152801937544176);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-8583f368abf868857ca2894a3885fdd2a1d1a7278d9a6d4e72c0ace497f8352d', '\x8583f368abf868857ca2894a3885fdd2a1d1a7278d9a6d4e72c0ace497f8352d', 1839152801943729136);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-0021957a88e201fc29016133d3b062e6c6765e590d91162a9e2900d8d76bd8c8', '\x0021957a88e201fc29016133d3b062e6c6765e590d91162a9e2900d8d76bd8c8', 1839152801945292784);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795251600000000-23eef78a3abd8432ce999d7a7f7b104dcde317a00ca4b94e2d1704711f701206', '\x23eef78a3abd8432ce999d7a7f7b104dcde317a00ca4b94e2d1704711f701206', 1839152816650655893);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795251600000000-932d6be962503da53f87f45bebe2b8e1b863f913f1ebc54950acb39ac64e6271', '\x932d6be962503da53f87f45bebe2b8e1b863f913f1ebc54950acb39ac64e6271', 1839152816688489621);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795251600000000-5c3bcc2cf5112a4475107c97f3d501a64fd89bae158bda84959b4d4d4a172984', '\x5c3bcc2cf5112a4475107c97f3d501a64fd89bae158bda84959b4d4d4a172984', 1839152816702894229);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795251600000000-3c2941d9d6edda709edb8a1504ab7839ffd3cf2aa0a9b16c223670bfa6a1e6fc', '\x3c2941d9d6edda709edb8a1504ab7839ffd3cf2aa0a9b16c223670bfa6a1e6fc', 1839152816714507413);
INSERT INTO public.deliveries VALUES (1839152795396610032, 'iimmpact', 'group.created', 'group', 'COASTALBICYCLE5520', '2026-11-30 14:07:37.915+00', '2026-11-30 14:07:31.701283+00', 'processed', 1, '2026-11-30 14:07:31.701283+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:07:31.774732+00', '1796047657915000-82a1db9548fbe7140e810d7b13c02c35d2ef7d630bf75483cb47d4823810bb62', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152795396618224, 'sticky', 'product.created', 'product', '21', '2026-11-30 14:07:37+00', '2026-11-30 14:07:31.701283+00', 'processed', 1, '2026-11-30 14:07:31.701283+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:07:31.774732+00', '["66e854bb-0000-4513-a96a-67bb952147ac","product.created","21"]', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152795396619248, 'indexed', 'order.created', 'order', 'orde_17fbca_41', '2026-11-30 14:07:37+00', '2026-11-30 14:07:31.710998+00', 'processed', 1, '2026-11-30 14:07:31.710998+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:07:31.774732+00', '1796047657000000-3bcfad009791bb4596ad3e569dd0e62b56e6590fead112018f79aab4e10e499f', false, 0, 27, 1);
INSERT INTO public.deliveries VALUES (1839152801903770608, 'sigma', 'nothing.known', NULL, NULL, '2026-11-20 09:00:00.125+00', '2026-11-30 14:07:38.108275+00', 'ignored', 0, '2026-11-30 14:07:38.108275+00', false, NULL, NULL, NULL, 'No handler takes nothing.known.', '2026-11-30 14:07:38.108275+00', 'del-ign', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152801910979568, 'sigma', NULL, NULL, NULL, NULL, '2026-11-30 14:07:38.115742+00', 'dead', 0, '2026-11-30 14:07:38.115742+00', false, NULL, NULL, NULL, 'The body is not JSON: it looks like plain text. Let the sender send JSON, as application/json.', '2026-11-30 14:07:38.115742+00', '92628a747890d02d1459c6eb45fd13cfa63bbb6d346412cff190297cf9c33d39', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152801925933040, 'iimmpact', 'product.updated', 'product', 'TIE', '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.128583+00', 'processed', 1, '2026-11-30 14:07:38.128583+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:07:38.137854+00', '1795165200000000-8362ecfa18b457be1676ac300822eea0713ed734138f09ae0ee22795e729e4be', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152801928910832, 'iimmpact', 'product.updated', 'product', 'TIE', '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.133581+00', 'processed', 1, '2026-11-30 14:07:38.133581+00', false, NULL, NULL, 'tie', NULL, '2026-11-30 14:07:38.146907+00', '1795165200000000-58e05c14739bba0b8a3b6ee8dfccea8d133c717888d17a89f4536b113e9592f1', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152801930841072, 'iimmpact', 'product.updated', 'product', 'STALE', '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.135448+00', 'processed', 1, '2026-11-30 14:07:38.135448+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:07:38.146907+00', '1795165200000000-688f38b51e928211c77e2d62302a77737e516ca1d974dc259d8af6a5fc21558b', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152801935398896, 'iimmpact', 'product.updated', 'product', 'STALE', '2026-11-19 09:00:00+00', '2026-11-30 14:07:38.139907+00', 'processed', 1, '2026-11-30 14:07:38.139907+00', false, NULL, NULL, 'stale', NULL, '2026-11-30 14:07:38.146907+00', '1795078800000000-1f2397257c55e4c92b217905fe45be91a5d755d5556aacfd459f026fd5077173', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152801937544176, 'iimmpact', 'product.deleted', 'product', 'GONE', '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.14202+00', 'processed', 1, '2026-11-30 14:07:38.14202+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:07:38.160766+00', '1795165200000000-f49d1312709717a92e702627b56c9788438b09693365f62aab9bd72145178927', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152801943729136, 'iimmpact', 'product.updated', 'product', 'ü�x', '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.148047+00', 'processed', 1, '2026-11-30 14:07:41.378841+00', false, NULL, NULL, 'unchanged', NULL, '2026-11-30 14:07:41.443009+00', '1795165200000000-8583f368abf868857ca2894a3885fdd2a1d1a7278d9a6d4e72c0ace497f8352d', false, 0, 0, 2);
INSERT INTO public.deliveries VALUES (1839152801945292784, 'iimmpact', 'product.updated', 'product', 'HUGE', '2026-11-20 09:00:00+00', '2026-11-30 14:07:38.149531+00', 'processed', 1, '2026-11-30 14:07:41.367196+00', false, NULL, NULL, 'unchanged', NULL, '2026-11-30 14:07:41.443009+00', '1795165200000000-0021957a88e201fc29016133d3b062e6c6765e590d91162a9e2900d8d76bd8c8', false, 0, 0, 2);
INSERT INTO public.deliveries VALUES (1839152801918801904, 'iimmpact', NULL, NULL, NULL, NULL, '2026-11-30 14:07:38.123451+00', 'dead', 1, '2026-11-30 14:07:41.38681+00', false, NULL, NULL, NULL, 'The body is not what the dialect expects: timestamp: Value error, a time is ISO 8601 text.', '2026-11-30 14:07:41.473569+00', '7cdebc2d59f9db8f1f1ed68d035c120e07bbc5a22f292e70252302eb6595ce04', false, 0, 0, 2);
INSERT INTO public.deliveries VALUES (1839152795341379568, 'sigma', 'entity.created', 'entity', 'ent-nordic-jacket-432-776b-0', '2026-11-30 14:07:37.915+00', '2026-11-30 14:07:31.698967+00', 'processed', 1, '2026-11-30 14:07:45.518772+00', false, NULL, NULL, 'unchanged', NULL, '2026-11-30 14:07:45.670813+00', 'del-f49beb79ed2b', false, 0, 0, 2);
INSERT INTO public.deliveries VALUES (1839152801852082160, 'sigma', 'entity.updated', 'entity', 'C1', '2026-11-20 09:00:00.125+00', '2026-11-30 14:07:38.057667+00', 'processed', 1, '2026-11-30 14:07:45.518772+00', false, NULL, NULL, 'unchanged', NULL, '2026-11-30 14:07:45.670813+00', 'del-conf', false, 0, 0, 2);
INSERT INTO public.deliveries VALUES (1839152801863891952, 'sigma', 'entity.updated', 'entity', 'C2', '2026-11-20 09:00:00.125+00', '2026-11-30 14:07:38.069938+00', 'processed', 1, '2026-11-30 14:07:45.518772+00', false, NULL, NULL, 'unchanged', NULL, '2026-11-30 14:07:45.670813+00', 'del-conf#d64345b1e01c8d9fd4283db60c16fda09d131d97858a96e2c97b937886e78755', true, 0, 0, 2);
INSERT INTO public.deliveries VALUES (1839152816650655893, 'iimmpact', 'product.updated', 'product', 'WAITS0', '2026-11-21 09:00:00+00', '2026-11-30 14:07:52.50899+00', 'pending', 0, '2026-11-30 14:07:52.50899+00', false, NULL, NULL, NULL, NULL, NULL, '1795251600000000-23eef78a3abd8432ce999d7a7f7b104dcde317a00ca4b94e2d1704711f701206', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152816688489621, 'iimmpact', 'product.updated', 'product', 'WAITS1', '2026-11-21 09:00:00+00', '2026-11-30 14:07:52.546947+00', 'pending', 0, '2026-11-30 14:07:52.546947+00', false, NULL, NULL, NULL, NULL, NULL, '1795251600000000-932d6be962503da53f87f45bebe2b8e1b863f913f1ebc54950acb39ac64e6271', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152816702894229, 'iimmpact', 'product.updated', 'product', 'WAITS2', '2026-11-21 09:00:00+00', '2026-11-30 14:07:52.560131+00', 'pending', 0, '2026-11-30 14:07:52.560131+00', false, NULL, NULL, NULL, NULL, NULL, '1795251600000000-5c3bcc2cf5112a4475107c97f3d501a64fd89bae158bda84959b4d4d4a172984', false, 0, 0, 1);
INSERT INTO public.deliveries VALUES (1839152816714507413, 'iimmpact', 'product.updated', 'product', 'WAITS3', '2026-11-21 09:00:00+00', '2026-11-30 14:07:52.572448+00', 'processing', 1, '2026-11-30 14:07:52.572448+00', false, 'gone.example:1:00000000', '2026-11-30 14:06:52.806563+00', NULL, NULL, NULL, '1795251600000000-3c2941d9d6edda709edb8a1504ab7839ffd3cf2aa0a9b16c223670bfa6a1e6fc', false, 0, 0, 1);
INSERT INTO public.groups VALUES ('iimmpact', 'COASTALBICYCLE5520', true, '2026-11-30 14:07:37.915+00', NULL, false, '{"own":true,"at":[[1796047657915000,1,1839152795396610032,"active","name","data"]]}', NULL, 'Coastal Bicycle 552', NULL, NULL, NULL, NULL, '{"id":"COASTALBICYCLE5520","name":"Coastal Bicycle 552","icon_url":"https://images.example.com/COASTALBICYCLE5520.png"}');
INSERT INTO public.identity VALUES (1, '7d4bae9128be4ba0ab8f198ad7ee7018');
INSERT INTO public.processes VALUES ('erp.example:235ef2484e:27107:288868:d8b853ec', 'erp.example', 27107, 'endpoint', '0.1.0', 'receiver 0009, catalog 0002', '4f51442b606646ad', '["source iimmpact speaks iimmpact","source indexed speaks indexed","source sigma speaks sigma","source sticky speaks sticky","iimmpact gives category.created to handlers.iimmpact.upsert_category","iimmpact gives category.deleted to handlers.iimmpact.deactivate","iimmpact gives category.updated to handlers.iimmpact.upsert_category","iimmpact gives group.created to handlers.iimmpact.upsert_group","iimmpact gives group.deleted to handlers.iimmpact.deactivate","iimmpact gives group.updated to handlers.iimmpact.upsert_group","iimmpact gives option.created to handlers.iimmpact.upsert_option","iimmpact gives option.deleted to handlers.iimmpact.deactivate","iimmpact gives option.updated to handlers.iimmpact.upsert_option","iimmpact gives product.created to handlers.iimmpact.upsert_product","iimmpact gives product.deleted to handlers.iimmpact.deactivate","iimmpact gives product.updated to handlers.iimmpact.upsert_product","indexed gives *.create to handlers.indexed.upsert","indexed gives *.created to handlers.indexed.upsert","indexed gives *.delete to handlers.indexed.deactivate","indexed gives *.deleted to handlers.indexed.deactivate","indexed gives *.update to handlers.indexed.upsert","indexed gives *.updated to handlers.indexed.upsert","sigma gives entity.created to handlers.sigma.upsert_entity","sigma gives entity.deleted to handlers.sigma.deactivate_entity","sigma gives entity.transition to handlers.sigma.upsert_entity","sigma gives entity.updated to handlers.sigma.upsert_entity","sigma gives variant.created to handlers.sigma.upsert_variant","sigma gives variant.deleted to handlers.sigma.deactivate_variant","sigma gives variant.updated to handlers.sigma.upsert_variant","sticky gives bulk.variant.created to handlers.sticky.upsert_variants","sticky gives bulk.variant.deleted to handlers.sticky.deactivate_variants","sticky gives bulk.variant.updated to handlers.sticky.upsert_variants","sticky gives product.created to handlers.sticky.upsert_product","sticky gives product.deleted to handlers.sticky.deactivate_product","sticky gives product.updated to handlers.sticky.upsert_product","sticky gives variant.created to handlers.sticky.upsert_variants","sticky gives variant.deleted to handlers.sticky.deactivate_variants","sticky gives variant.updated to handlers.sticky.upsert_variants"]', '2026-11-30 14:07:51.718546+00', '2026-11-30 14:07:52.449458+00', '{"read_at":"2026-11-30T14:07:52.408168+00:00","refused":null,"needs_restart":[]}');
INSERT INTO public.products VALUES ('sticky', '21', true, '2026-11-30 14:07:37+00', NULL, false, '{"own":true,"at":[[1796047657000000,1,1839152795396618224,"active","sku","name","price","parent","data"]],"gone":{"variants":[1796047657000000,0,1839152795396618224]}}', 'QRNJFNMM4R', 'Nordic Bicycle 720', 129.3900, NULL, '5', NULL, '{"id":21,"name":"Nordic Bicycle 720","sku":"QRNJFNMM4R","vertical":{"id":2,"name":"Home"},"category":{"id":5,"name":"Magazine","description":"Mag01"},"max_quantity":10,"description":"A alpine headset, red.","images":[],"custom_fields":[{"id":1,"field_type_id":1,"name":"material","token_key":"test_product_field","is_multi":0,"type_id":3,"values":[{"option_id":0,"value":"material 21","name":"material"}]}],"is_taxable":1,"tax_code":"123456ABC","digital_download_url":"","is_shippable":1,"created_at":"2026-11-30T09:07:37-05:00","updated_at":"2026-11-30T09:07:37-05:00","type":"product","price":"129.3900","cost_of_goods":"0.00","restocking_fee":"0.00","variants":[]}');
INSERT INTO public.products VALUES ('iimmpact', 'STALE', true, '2026-11-20 09:00:00+00', NULL, false, '{"own":true,"at":[[1795165200000000,1,1839152801930841072,"active","name","sku","data"]]}', 'STALE', 'A', NULL, NULL, NULL, NULL, '{"product_code":"STALE","display_name":"A"}');
INSERT INTO public.products VALUES ('iimmpact', 'TIE', true, '2026-11-20 09:00:00+00', NULL, true, '{"own":true,"at":[[1795165200000000,1,1839152801928910832,"active","name","sku","data"]],"ties":["data","name"]}', 'TIE', 'B', NULL, NULL, NULL, NULL, '{"product_code":"TIE","display_name":"B"}');
INSERT INTO public.products VALUES ('iimmpact', 'GONE', false, '2026-11-20 09:00:00+00', '2026-11-20 09:00:00+00', false, '{"own":false,"at":[[1795165200000000,2,1839152801937544176,"active"]],"gone":{"variants":[1795165200000000,2,1839152801937544176]}}', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.products VALUES ('iimmpact', 'HUGE', true, '2026-11-20 09:00:00+00', NULL, false, '{"own":true,"at":[[1795165200000000,1,1839152801945292784,"active","name","sku","data"]]}', 'H', 'h', NULL, NULL, NULL, NULL, '{"product_code":"H","display_name":"h","x":1E+400}');
INSERT INTO public.products VALUES ('iimmpact', 'ü�x', true, '2026-11-20 09:00:00+00', NULL, false, '{"own":true,"at":[[1795165200000000,1,1839152801943729136,"active","name","sku","data"]]}', 'NUL', 'a�b', NULL, NULL, NULL, NULL, '{"product_code":"NUL","display_name":"a\u0000b"}');
INSERT INTO public.products VALUES ('sigma', 'C1', true, '2026-11-20 09:00:00.125+00', NULL, false, '{"own":true,"at":[[1795165200125000,1,1839152801852082160,"active","data"]]}', NULL, NULL, NULL, NULL, NULL, NULL, '{"entityId":"C1","schemaId":"s"}');
INSERT INTO public.products VALUES ('sigma', 'C2', true, '2026-11-20 09:00:00.125+00', NULL, false, '{"own":true,"at":[[1795165200125000,1,1839152801863891952,"active","data"]]}', NULL, NULL, NULL, NULL, NULL, NULL, '{"entityId":"C2","schemaId":"s"}');
INSERT INTO public.products VALUES ('sigma', 'ent-nordic-jacket-432-776b-0', true, '2026-11-30 14:07:37.915+00', NULL, false, '{"own":true,"at":[[1796047657915000,1,1839152795341379568,"active","lifecycle_state","data"]]}', NULL, NULL, NULL, NULL, NULL, 'draft', '{"entityId":"ent-nordic-jacket-432-776b-0","schemaId":"schema-outdoor","lifecycleState":"draft","createdBy":"user-admin"}');
INSERT INTO public.reconciles VALUES ('sigma', '2026-11-28 14:02:48.897616+00', '1839152505751159712', 'gone.example:1:00000000', '2026-11-28 14:17:48.927411+00', '{"run":"1839152505751159712","source":"sigma","began_at":"2026-11-28T14:02:48.897616+00:00","plan":false,"force":false,"only_misdated":false,"stage":"pages","as_of":"2026-11-28T14:02:48.903228+00:00","low":0,"seq":0,"part":0,"start":1,"after":"","walk":1,"totals":[50],"repeats":false,"split":["records"],"again":[],"read":2,"listed":null,"repaired":0,"newer":2,"left":0,"misdated":0,"grown":{},"braked":{}}', false, '2026-11-28 14:02:48.897616+00', NULL, NULL);
INSERT INTO public.records VALUES ('indexed', 'order:orde_17fbca_41', true, '2026-11-30 14:07:37+00', NULL, false, '{"own":true,"at":[[1796047657000000,1,1839152795396619248,"active","lifecycle_state","kind","data.id","data.externalId","data.number","data.total","data.status","data.createdAt","data.updatedAt"]]}', NULL, NULL, NULL, NULL, NULL, 'discontinued', '{"id":41,"externalId":"orde_17fbca_41","number":"SO-34719","total":792.36,"status":"discontinued","createdAt":"2026-11-30T14:07:37+00:00","updatedAt":"2026-11-30T14:07:37+00:00"}', 'order');
INSERT INTO public.rounds VALUES (1839152801945292784, 1, 'accepted', NULL, NULL, '2026-11-30 14:07:38.149531+00', 'processed', 'applied', NULL, '2026-11-30 14:07:38.160766+00');
INSERT INTO public.rounds VALUES (1839152801945292784, 2, 'replay', NULL, 1, '2026-11-30 14:07:41.367196+00', NULL, NULL, NULL, NULL);
INSERT INTO public.rounds VALUES (1839152801943729136, 1, 'accepted', NULL, NULL, '2026-11-30 14:07:38.148047+00', 'processed', 'applied', NULL, '2026-11-30 14:07:38.160766+00');
INSERT INTO public.rounds VALUES (1839152801943729136, 2, 'replay', NULL, 2, '2026-11-30 14:07:41.378841+00', NULL, NULL, NULL, NULL);
INSERT INTO public.rounds VALUES (1839152801918801904, 1, 'accepted', NULL, NULL, '2026-11-30 14:07:38.123451+00', 'dead', NULL, 'The body is not what the dialect expects: timestamp: Value error, a time is ISO 8601 text.', '2026-11-30 14:07:38.123451+00');
INSERT INTO public.rounds VALUES (1839152801918801904, 2, 'replay', NULL, 3, '2026-11-30 14:07:41.38681+00', NULL, NULL, NULL, NULL);
INSERT INTO public.rounds VALUES (1839152795341379568, 1, 'accepted', NULL, NULL, '2026-11-30 14:07:31.698967+00', 'processed', 'applied', NULL, '2026-11-30 14:07:31.774732+00');
INSERT INTO public.rounds VALUES (1839152801852082160, 1, 'accepted', NULL, NULL, '2026-11-30 14:07:38.057667+00', 'processed', 'applied', NULL, '2026-11-30 14:07:38.072845+00');
INSERT INTO public.rounds VALUES (1839152801863891952, 1, 'accepted', NULL, NULL, '2026-11-30 14:07:38.069938+00', 'processed', 'applied', NULL, '2026-11-30 14:07:38.114306+00');
INSERT INTO public.rounds VALUES (1839152795341379568, 2, 'replay', 1, NULL, '2026-11-30 14:07:45.518772+00', NULL, NULL, NULL, NULL);
INSERT INTO public.rounds VALUES (1839152801852082160, 2, 'replay', 1, NULL, '2026-11-30 14:07:45.518772+00', NULL, NULL, NULL, NULL);
INSERT INTO public.rounds VALUES (1839152801863891952, 2, 'replay', 1, NULL, '2026-11-30 14:07:45.518772+00', NULL, NULL, NULL, NULL);
INSERT INTO public.run_deliveries VALUES (2, 1839152795396618224, 'waiting', 'unchanged', NULL, NULL, NULL);
INSERT INTO public.run_deliveries VALUES (3, 1839152801910979568, 'waiting', 'dead', 'The body is not JSON: it looks like plain text. Let the sender send JSON, as application/json.', NULL, NULL);
INSERT INTO public.run_deliveries VALUES (4, 1839152795396619248, 'waiting', 'unchanged', NULL, NULL, NULL);
INSERT INTO public.run_deliveries VALUES (1, 1839152795341379568, 'ended', 'unchanged', NULL, 'unchanged', NULL);
INSERT INTO public.run_deliveries VALUES (1, 1839152801852082160, 'ended', 'unchanged', NULL, 'unchanged', NULL);
INSERT INTO public.run_deliveries VALUES (1, 1839152801863891952, 'ended', 'unchanged', NULL, 'unchanged', NULL);
INSERT INTO public.run_turns VALUES ('replay', 'indexed', 4);
INSERT INTO public.run_turns VALUES ('replay', 'sigma', 3);
INSERT INTO public.runs VALUES (1, 'replay', '["sigma"]', '{"source":"sigma","state":"processed"}', 'done', 3, 3, '{"unchanged":3}', '{"after":1839152801863891952,"fed":true}', '{"made_at":"2026-11-30T14:07:44.508560+00:00","deliveries":3,"tried":3,"partial":null,"outcomes":{"unchanged":3},"reasons":[],"rows":{},"rows_shown":0}', '0.1.0', '4f51442b606646ad', 'api', '2026-11-30 14:07:43.407015+00', 'api', '2026-11-30 14:07:45.186058+00', 'fixed', '2026-11-30 14:07:45.793584+00', NULL, NULL, NULL);
INSERT INTO public.runs VALUES (2, 'replay', '["sticky"]', '{"source":"sticky","state":"processed"}', 'cancelled', 1, 0, '{}', '{"after":1839152795396618224,"until":1839152801945292784,"frozen":true}', '{"made_at":"2026-11-30T14:07:44.615763+00:00","deliveries":1,"tried":1,"partial":null,"outcomes":{"unchanged":1},"reasons":[],"rows":{},"rows_shown":0}', '0.1.0', '4f51442b606646ad', 'api', '2026-11-30 14:07:43.433067+00', NULL, NULL, NULL, '2026-11-30 14:07:46.297459+00', NULL, NULL, NULL);
INSERT INTO public.runs VALUES (3, 'replay', '["sigma"]', '{"source":"sigma","state":"dead"}', 'running', 1, 0, '{}', NULL, '{"made_at":"2026-11-30T14:07:44.674448+00:00","deliveries":1,"tried":1,"partial":null,"outcomes":{"dead":1},"reasons":[{"reason":"dead: The body is not JSON: it looks like plain text. Let the sender send JSON, as application/json.","deliveries":1}],"rows":{},"rows_shown":0}', '0.1.0', '4f51442b606646ad', 'api', '2026-11-30 14:07:43.440961+00', 'api', '2026-11-30 14:07:52.582511+00', 'after a fix', NULL, NULL, NULL, NULL);
INSERT INTO public.runs VALUES (4, 'replay', '["indexed"]', '{"source":"indexed","state":"processed"}', 'running', 1, 0, '{}', NULL, '{"made_at":"2026-11-30T14:07:44.704833+00:00","deliveries":1,"tried":1,"partial":null,"outcomes":{"unchanged":1},"reasons":[],"rows":{},"rows_shown":0}', '0.1.0', '4f51442b606646ad', 'api', '2026-11-30 14:07:43.449352+00', 'api', '2026-11-30 14:07:46.345366+00', 'again', NULL, NULL, NULL, NULL);
INSERT INTO public.runs VALUES (5, 'replay', '[]', '{"source":"sticky","state":"processed"}', 'planning', 0, 0, '{}', NULL, NULL, '0.1.0', '4f51442b606646ad', 'api', '2026-11-30 14:07:52.717612+00', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.seen VALUES ('1839152505751159712', 'records', 'C1', 1, NULL);
SELECT pg_catalog.setval('public.actions_id_seq', 14, true);
SELECT pg_catalog.setval('public.changes_seq_seq', 12, true);
SELECT pg_catalog.setval('public.runs_id_seq', 5, true);
ALTER TABLE ONLY public.actions
    ADD CONSTRAINT actions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.alembic_version_catalog
    ADD CONSTRAINT alembic_version_catalog_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.alembic_version_receiver
    ADD CONSTRAINT alembic_version_receiver_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (delivery_id, ended_at, number, round);
ALTER TABLE ONLY public.bodies
    ADD CONSTRAINT bodies_pkey PRIMARY KEY (delivery_id);
ALTER TABLE ONLY public.categories
    ADD CONSTRAINT categories_pkey PRIMARY KEY (source, external_id);
ALTER TABLE ONLY public.changes
    ADD CONSTRAINT changes_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.dedup_keys
    ADD CONSTRAINT dedup_keys_pkey PRIMARY KEY (source, dedup_key);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.groups
    ADD CONSTRAINT groups_pkey PRIMARY KEY (source, external_id);
ALTER TABLE ONLY public.identity
    ADD CONSTRAINT identity_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.options
    ADD CONSTRAINT options_pkey PRIMARY KEY (source, external_id);
ALTER TABLE ONLY public.processes
    ADD CONSTRAINT processes_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.products
    ADD CONSTRAINT products_pkey PRIMARY KEY (source, external_id);
ALTER TABLE ONLY public.reconciles
    ADD CONSTRAINT reconciles_pkey PRIMARY KEY (source);
ALTER TABLE ONLY public.records
    ADD CONSTRAINT records_pkey PRIMARY KEY (source, external_id);
ALTER TABLE ONLY public.rounds
    ADD CONSTRAINT rounds_pkey PRIMARY KEY (delivery_id, number);
ALTER TABLE ONLY public.run_deliveries
    ADD CONSTRAINT run_deliveries_pkey PRIMARY KEY (run, delivery_id);
ALTER TABLE ONLY public.run_rows
    ADD CONSTRAINT run_rows_pkey PRIMARY KEY (run, "table", source, external_id);
ALTER TABLE ONLY public.run_turns
    ADD CONSTRAINT run_turns_pkey PRIMARY KEY (kind, source);
ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.seen
    ADD CONSTRAINT seen_pkey PRIMARY KEY (run, "table", external_id);
ALTER TABLE ONLY public.variants
    ADD CONSTRAINT variants_pkey PRIMARY KEY (source, external_id);
CREATE UNIQUE INDEX ix_actions_key ON public.actions USING btree (key);
CREATE INDEX ix_actions_run ON public.actions USING btree (run, id);
CREATE INDEX ix_categories_parent ON public.categories USING btree (parent);
CREATE INDEX ix_categories_sku ON public.categories USING btree (sku);
CREATE INDEX ix_changes_delivery ON public.changes USING btree (delivery_id) WHERE (delivery_id IS NOT NULL);
CREATE INDEX ix_changes_row ON public.changes USING btree ("table", source, external_id, seq);
CREATE INDEX ix_deliveries_dead ON public.deliveries USING btree (id) WHERE ((state)::text = 'dead'::text);
CREATE INDEX ix_deliveries_due ON public.deliveries USING btree (suspect, due_at, id) WHERE ((state)::text = 'pending'::text);
CREATE INDEX ix_deliveries_entity ON public.deliveries USING btree (entity_id, id) WHERE (ended_at IS NOT NULL);
CREATE INDEX ix_deliveries_processing ON public.deliveries USING btree (source, entity_kind, entity_id) WHERE ((state)::text = 'processing'::text);
CREATE INDEX ix_deliveries_source ON public.deliveries USING btree (source, id);
CREATE INDEX ix_groups_parent ON public.groups USING btree (parent);
CREATE INDEX ix_groups_sku ON public.groups USING btree (sku);
CREATE INDEX ix_options_parent ON public.options USING btree (parent);
CREATE INDEX ix_options_sku ON public.options USING btree (sku);
CREATE INDEX ix_products_parent ON public.products USING btree (parent);
CREATE INDEX ix_products_sku ON public.products USING btree (sku);
CREATE INDEX ix_records_parent ON public.records USING btree (parent);
CREATE INDEX ix_records_sku ON public.records USING btree (sku);
CREATE INDEX ix_rounds_run ON public.rounds USING btree (run, delivery_id) WHERE (run IS NOT NULL);
CREATE INDEX ix_run_deliveries_fed ON public.run_deliveries USING btree (delivery_id, run) WHERE ((state)::text = 'fed'::text);
CREATE INDEX ix_run_deliveries_retrying ON public.run_deliveries USING btree (delivery_id, run) WHERE ((state)::text = 'retrying'::text);
CREATE INDEX ix_runs_open ON public.runs USING btree (id) WHERE state IN ('planning', 'running');
CREATE INDEX ix_variants_parent ON public.variants USING btree (parent);
CREATE INDEX ix_variants_sku ON public.variants USING btree (sku);
