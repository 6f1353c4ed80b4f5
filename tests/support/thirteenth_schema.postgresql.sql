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
    reason character varying NOT NULL,
    round integer DEFAULT 1 NOT NULL,
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
    recorded_at timestamp with time zone NOT NULL,
    run bigint
);
CREATE SEQUENCE public.changes_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.changes_seq_seq OWNED BY public.changes.seq;
CREATE TABLE public.dead_changes (
    follower character varying NOT NULL,
    seq bigint NOT NULL,
    "table" character varying NOT NULL,
    source character varying NOT NULL,
    external_id character varying NOT NULL,
    state character varying NOT NULL,
    status integer,
    reason character varying,
    attempts integer NOT NULL,
    since timestamp with time zone NOT NULL
);
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
    round integer DEFAULT 1 NOT NULL,
    item integer,
    body_id bigint
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='50000');
CREATE TABLE public.duties (
    name character varying NOT NULL,
    holder character varying NOT NULL,
    until timestamp with time zone NOT NULL
);
CREATE TABLE public.findings (
    id character varying NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    rule character varying NOT NULL,
    source character varying NOT NULL,
    since timestamp with time zone NOT NULL,
    says character varying NOT NULL,
    mend character varying NOT NULL,
    evidence text NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone,
    acknowledged_at timestamp with time zone,
    acknowledged_by character varying
);
CREATE TABLE public.followers (
    name character varying NOT NULL,
    target character varying NOT NULL,
    reach character varying NOT NULL,
    "table" character varying,
    source character varying,
    seq bigint NOT NULL,
    mark character varying NOT NULL,
    holder character varying,
    seen_at timestamp with time zone NOT NULL,
    began_at timestamp with time zone NOT NULL,
    accepted_at timestamp with time zone,
    trouble character varying,
    trouble_since timestamp with time zone
);
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
CREATE TABLE public.refused (
    id bigint NOT NULL,
    source character varying NOT NULL,
    code character varying NOT NULL,
    received_at timestamp with time zone NOT NULL,
    size integer NOT NULL,
    headers text NOT NULL,
    body bytea NOT NULL
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
CREATE TABLE public.schedules (
    source character varying NOT NULL,
    noticed_at timestamp with time zone NOT NULL
);
CREATE TABLE public.seen (
    run character varying NOT NULL,
    "table" character varying NOT NULL,
    external_id character varying NOT NULL,
    walk integer NOT NULL,
    active boolean
);
CREATE TABLE public.sessions (
    id character varying NOT NULL,
    link character varying NOT NULL,
    name character varying NOT NULL,
    role character varying NOT NULL,
    created_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL
);
CREATE TABLE public.settlements (
    ended_at timestamp with time zone NOT NULL,
    id bigint NOT NULL,
    worker character varying NOT NULL,
    release character varying NOT NULL,
    settle_us integer NOT NULL,
    attempts text NOT NULL
);
CREATE TABLE public.tallies (
    span integer NOT NULL,
    source character varying NOT NULL,
    kind character varying NOT NULL,
    at timestamp with time zone NOT NULL,
    detail character varying NOT NULL,
    process character varying NOT NULL,
    number bigint NOT NULL,
    amount double precision NOT NULL
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
INSERT INTO public.actions VALUES (1, '2026-11-30 14:08:38.161499+00', 'api', 'api', 'replay', '{"delivery":"1839152859975290273"}', NULL, 1, NULL, '{"status":"pending","deliveries":1,"counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (2, '2026-11-30 14:08:38.232962+00', 'api', 'api', 'replay', '{"delivery":"1839152859957010849"}', NULL, 1, NULL, '{"status":"pending","deliveries":1,"counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (3, '2026-11-30 14:08:38.263847+00', 'api', 'api', 'replay', '{"delivery":"1839152859876702625"}', NULL, 1, NULL, '{"status":"pending","deliveries":1,"counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (4, '2026-11-30 14:08:40.286472+00', 'api', 'api', 'plan replay', '{"source":"sigma","state":"processed"}', 1, 3, NULL, '{"run":"1","state":"planning","counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (5, '2026-11-30 14:08:40.315015+00', 'api', 'api', 'plan replay', '{"source":"sticky","state":"processed"}', 2, 1, NULL, '{"run":"2","state":"planning","counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (6, '2026-11-30 14:08:40.342774+00', 'api', 'api', 'plan replay', '{"source":"sigma","state":"dead"}', 3, 1, NULL, '{"run":"3","state":"planning","counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (7, '2026-11-30 14:08:40.361973+00', 'api', 'api', 'plan replay', '{"source":"indexed","state":"processed"}', 4, 1, NULL, '{"run":"4","state":"planning","counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (8, '2026-11-30 14:08:41.023306+00', 'api', 'api', 'start run', '{"run":"1"}', 1, 3, 'fixed', '{"run":"1","state":"running","counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (9, '2026-11-30 14:08:42.601198+00', 'api', 'api', 'cancel run', '{"run":"2"}', 2, 1, 'not wanted now', '{"run":"2","state":"cancelled","counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (10, '2026-11-30 14:09:00.246755+00', 'Ann', 'console', 'sign in', '{"role":"operator"}', NULL, 1, NULL, '{"session":"e691b340bd62ebc2be5bf483a0daddda3603f6261c30a0af2367affe2d83d716","counts":"session"}', NULL);
INSERT INTO public.actions VALUES (11, '2026-11-30 14:09:00.269799+00', 'api', 'api', 'start run', '{"run":"4"}', 4, 1, 'again', '{"run":"4","state":"running","counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (12, '2026-11-30 14:09:00.300089+00', 'api', 'api', 'pause run', '{"run":"4"}', 4, 1, 'later', '{"run":"4","state":"paused","counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (13, '2026-11-30 14:09:09.534691+00', 'api', 'api', 'start run', '{"run":"3"}', 3, 1, 'after a fix', '{"run":"3","state":"running","counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (14, '2026-11-30 14:09:09.63958+00', 'api', 'api', 'resume run', '{"run":"4"}', 4, 1, 'after a fix', '{"run":"4","state":"running","counts":"delivery"}', NULL);
INSERT INTO public.actions VALUES (15, '2026-11-30 14:09:09.722554+00', 'api', 'api', 'plan replay', '{"source":"sticky","state":"processed"}', 5, 0, NULL, '{"run":"5","state":"planning","counts":"delivery"}', NULL);
INSERT INTO public.alembic_version_catalog VALUES ('0002');
INSERT INTO public.alembic_version_receiver VALUES ('0013');
INSERT INTO public.attempts VALUES (1839152859876702625, '2026-11-30 14:08:38.276779+00', 1, 'erp.example:235ef2484e:28210:291293:1d43df9c', 'The body is not what the dialect expects: timestamp: Value error, a time is ISO 8601 text.', 2, NULL, '0.1.0', NULL, NULL, 1744, NULL);
INSERT INTO public.bodies VALUES (1839152852815916449, '\x7b226576656e74223a22656e746974792e63726561746564222c2264656c69766572794964223a2264656c2d663439626562373965643262222c2274696d657374616d70223a22323032362d31312d33305431343a30383a33322e3630325a222c2264617461223a7b22656e746974794964223a22656e742d6e6f726469632d6a61636b65742d3433322d373736622d30222c22736368656d614964223a22736368656d612d6f7574646f6f72222c226c6966656379636c655374617465223a226472616674222c22637265617465644279223a22757365722d61646d696e227d7d', NULL, '{"content-type":"application/json","x-sigma-signature":"sha256=854ab2e6feb69f746252e1c1c8e96da29f381fdc192b9bcf5c4e46bd3e0a1cd8","x-sigma-event":"entity.created","x-sigma-delivery":"del-f49beb79ed2b"}');
INSERT INTO public.bodies VALUES (1839152852898998689, '\x7b2274797065223a2267726f75702e63726561746564222c227265736f75726365223a2267726f757073222c226964223a22434f415354414c42494359434c4535353230222c2274696d657374616d70223a22323032362d31312d33305431343a30383a33322e3630325a222c2264617461223a7b226964223a22434f415354414c42494359434c4535353230222c226e616d65223a22436f617374616c2042696379636c6520353532222c2269636f6e5f75726c223a2268747470733a2f2f696d616765732e6578616d706c652e636f6d2f434f415354414c42494359434c45353532302e706e67227d7d', NULL, '{"content-type":"application/json","x-webhook-signature":"sha256=16f49c28d163c354f0be5cbb8fbaecab000a0ea38f4cba7a26d2ff7df9f52215"}');
INSERT INTO public.bodies VALUES (1839152852899004833, '\x6f416e366234567a56782b2f54557342376978534d66366d4e693450753551386b4f74505251596b50586b4370455a627552714a416a6139305a647a50775356554e493962776f654f5359754d54724a6e6f6d5138686b356b426741684b7732576a472f786f42636d417264426d4f3971364e7567314536484f6f41674733437a474f586a436669546342336d596a66684d762f72576b6b626d75623772694e4b7365654b633876447975396c36676a75686e445630425152767667727247516776505141614a544c436235594d6a3036334838786176716b6a3358574b375a5452525945747252776f354a434f624141715130794e364f496f445871452f43714670316c6f6f427a67647339552f637457637a6a742f3574645739365833485944676858583541794a573153676d6b6564437a74502f51416337473274503335656d57477841516d66415471552f414167617a4f4d432f64323043774c4c514f4b394853614d344c73576c646249466e314f6b56316e2f6b6c654a503654306d387074316d4d456e597269507459484249466b4c6a732b7574506e30556b4d6c494245576a4a395049724149497871744d71636c70735a37767451426677514f645154513547785a555a536339774f4e486161582b486134775a327374704d772b6d745443444b656562386c7773524c527848633279685469682b626b7a6e376132415066714f5939453375393076556e6d646e6d6a3842505631746666513675524c5a30737578517231414736594970626d4f71465a47516d664e6e5364745668754d71487243516e4569526d57652b346b596168306a6772556c48357545346a6c567137713141515876553138756a476b7869747465567565556c7039475a50764e32344e4f303467666d4c7845775148674f655645527452355a7953495a396f4e4c2f43624566472f4d2f46327453384439754a64797831467774664a4e457759473743756d424248422f4e524e6b7970774e50504464696f7a566c724f327757444b304f30633762763558736e2b6670495153684365316861502f6c4c374b614f7a2b31657159563545496a704238497439414e5157614170325630674a4168494247627953356d367a5a4278586c4833332b713468535a6f7a5669726354766b4861424f314d6444764c41554b574f31416c64384a6b377a63414d2b45396b7237614f57533039697650424443373849486e5a38527452564533736b5a77612b64464b30556f594559725371546c663733727a556c79754a3862576f745065644457646363365748635453746d473651636e6e5137526c4564626d6956634f5777384b546a5767794352654a7a4649367042506c376f75666a5242416e7336745531422f5469447954634a644a583765306b4d616b37326a70446c427a5142494d734170494650762f7533767a596c517545386867386f4546636d3249507032514f746a796e74624961536d635851347a33394d343143666e4a4e6a6e4e47454d6d573072533659494c7737624a70314b6b4a794d74764d6b387a712b50737478664e305752765953756a58527856523255767759566e74443756446d4153354d554b566f6a316a3836794171536f354b4d465477625142775a4a7a344d4b79753736593770447a65624731564d483248383650554739347646397a41545262547732496543784b686256734d4563616f624b4b3873617930554853725a764e374c3476365966596f676c656668325042374b424c35304d5a62', '\x7b22636c69656e744170704b6579223a22286e6f742073746f72656429222c2274797065223a2270726f647563742e63726561746564222c2274696d65223a22323032362d31312d33302030393a30383a3332222c2264617461223a7b226964223a2264623836393964392d366632622d343131322d623036652d383064343832653666666635222c226f626a656374223a7b226964223a32312c226e616d65223a224e6f726469632042696379636c6520373230222c22736b75223a2251524e4a464e4d4d3452222c22766572746963616c223a7b226964223a322c226e616d65223a22486f6d65227d2c2263617465676f7279223a7b226964223a352c226e616d65223a224d6167617a696e65222c226465736372697074696f6e223a224d61673031227d2c226d61785f7175616e74697479223a31302c226465736372697074696f6e223a224120616c70696e6520686561647365742c207265642e222c22696d61676573223a5b5d2c22637573746f6d5f6669656c6473223a5b7b226964223a312c226669656c645f747970655f6964223a312c226e616d65223a226d6174657269616c222c22746f6b656e5f6b6579223a22746573745f70726f647563745f6669656c64222c2269735f6d756c7469223a302c22747970655f6964223a332c2276616c756573223a5b7b226f7074696f6e5f6964223a302c2276616c7565223a226d6174657269616c203231222c226e616d65223a226d6174657269616c227d5d7d5d2c2269735f74617861626c65223a312c227461785f636f6465223a22313233343536414243222c226469676974616c5f646f776e6c6f61645f75726c223a22222c2269735f736869707061626c65223a312c22637265617465645f6174223a22323032362d31312d33305430393a30383a33322d30353a3030222c22757064617465645f6174223a22323032362d31312d33305430393a30383a33322d30353a3030222c2274797065223a2270726f64756374222c227072696365223a223132392e33393030222c22636f73745f6f665f676f6f6473223a22302e3030222c22726573746f636b696e675f666565223a22302e3030222c2276617269616e7473223a5b5d7d2c2263726561746564223a22323032362d31312d33302030393a30383a3332222c2274726967676572696e674576656e74223a22222c22636f7272656c6174696f6e4964223a2236366538353462622d303030302d343531332d613936612d363762623935323134376163227d7d', '{"content-type":"application/json"}');
INSERT INTO public.bodies VALUES (1839152852899006881, '\x7b226576656e74223a226f726465722e63726561746564222c2274696d657374616d70223a22323032362d31312d33305431343a30383a33322b30303a3030222c226163636f756e74223a7b2265787465726e616c5f6964223a226163635f3739663065346433222c226e616d65223a224578616d706c6520436f6d70616e79227d2c22617070223a7b2265787465726e616c5f6964223a226170705f70726f6475637473222c226e616d65223a2250726f6475637473227d2c22776562686f6f6b223a7b2265787465726e616c5f6964223a227765625f386663613062626234653962227d2c226f72646572223a7b226964223a34312c2265787465726e616c4964223a226f7264655f3137666263615f3431222c226e756d626572223a22534f2d3334373139222c22746f74616c223a3739322e33362c22737461747573223a22646973636f6e74696e756564222c22637265617465644174223a22323032362d31312d33305431343a30383a33322b30303a3030222c22757064617465644174223a22323032362d31312d33305431343a30383a33322b30303a3030227d7d', NULL, '{"content-type":"application/json","x-webhook-signature":"sha256=c4e727e0a5a450ed92390bd13d2ee835bf64bca1d86bb34c97c107b8b3d7e395"}');
INSERT INTO public.bodies VALUES (1839152859771072929, '\x7b226576656e74223a22656e746974792e75706461746564222c2264656c69766572794964223a2264656c2d636f6e66222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30302e3132355a222c2264617461223a7b22656e746974794964223a224331222c22736368656d614964223a2273227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-sigma-signature":"sha256=f6bfad2bdd9e6b976c98ff284bbf9b48616db2ff828b42ad7db25e2ea97b0303"}');
INSERT INTO public.bodies VALUES (1839152859784344993, '\x7b226576656e74223a22656e746974792e75706461746564222c2264656c69766572794964223a2264656c2d636f6e66222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30302e3132355a222c2264617461223a7b22656e746974794964223a224332222c22736368656d614964223a2273227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-sigma-signature":"sha256=b6b519c47d77cb75ffeed28e73dfda347d670c0a7bf01faa1a7009df26eed6ba"}');
INSERT INTO public.bodies VALUES (1839152859832321441, '\x7b226576656e74223a226e6f7468696e672e6b6e6f776e222c2264656c69766572794964223a2264656c2d69676e222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30302e3132355a222c2264617461223a7b22656e746974794964223a224333227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-sigma-signature":"sha256=e6e6485f2d405d4cd3ed584dad63c63a129b93b65ebc89ac484564db3423bb49"}');
INSERT INTO public.bodies VALUES (1839152859851458977, '\x6e6f74206a736f6e20617420616c6c', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-sigma-signature":"sha256=e7e6370417b2969de7ebd9a5cdeaf71cadc827022ca93fb9f6423854084e758b"}');
INSERT INTO public.bodies VALUES (1839152859876702625, '\x7b2274797065223a2270726f647563742e75706461746564222c226964223a224e4f44415441222c2274696d657374616d70223a226e6f6e73656e7365222c2264617461223a7b7d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=ea6aa5627e8ba4c88c351c6348e0738138c230a1f7c8f6665f6085e9722104a6"}');
INSERT INTO public.bodies VALUES (1839152859883568545, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22544945222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a22544945222c22646973706c61795f6e616d65223a2241227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=d9469388e241b55c5304bf75071f56ea435f0ccddf096dd86f15b52668b12551"}');
INSERT INTO public.bodies VALUES (1839152859913243041, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22544945222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a22544945222c22646973706c61795f6e616d65223a2242227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=17a2c2f7fdab9b50c05d1fd8fdb4f457da566b23d35b66fe07f65c04af1201de"}');
INSERT INTO public.bodies VALUES (1839152859925302689, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a225354414c45222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a225354414c45222c22646973706c61795f6e616d65223a2241227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=e5b9552b135fbb42067e48163de874077828272990d3892183b8d43d58af0b3b"}');
INSERT INTO public.bodies VALUES (1839152859946516897, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a225354414c45222c2274696d657374616d70223a22323032362d31312d31395430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a225354414c45222c22646973706c61795f6e616d65223a2242227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=c9132a1b3bfb50b7527487903f3b0bbf5365e3fed2465f56181e425d0868b88b"}');
INSERT INTO public.bodies VALUES (1839152859953710497, '\x7b2274797065223a2270726f647563742e64656c65746564222c227265736f75726365223a2270726f6475637473222c226964223a22474f4e45222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a6e756c6c7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=8bd40c18794b21ef61a11539ab99a707e63882113ce2a0af1798e6f1be6f9bd8"}');
INSERT INTO public.bodies VALUES (1839152859957010849, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22c3bc5c753030303078222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a224e554c222c22646973706c61795f6e616d65223a22615c753030303062227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=10bb6cd1615aeb05e4b7550f86b4d7b8858d74ecb18c204701a4398afaa0b0e9"}');
INSERT INTO public.bodies VALUES (1839152859975290273, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a2248554745222c2274696d657374616d70223a22323032362d31312d32305430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a2248222c22646973706c61795f6e616d65223a2268222c2278223a31653430307d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=e7dd48a1601be0e267e22bfca0ab185de63a2082e7b9258a8a1254cb9d874650"}');
INSERT INTO public.bodies VALUES (1839152895426796233, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22574149545330222c2274696d657374616d70223a22323032362d31312d32315430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a2257222c22646973706c61795f6e616d65223a2257227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=827aa1239f6f8f6e7dd27ed6cba639fc657b74fa796c34e46fc4ceadfe939c6b"}');
INSERT INTO public.bodies VALUES (1839152895482328777, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22574149545331222c2274696d657374616d70223a22323032362d31312d32315430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a2257222c22646973706c61795f6e616d65223a2257227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=be18c25cb623faab427956e2b62421028a42ef6662f9487ceca89245d0941fb0"}');
INSERT INTO public.bodies VALUES (1839152895495194313, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22574149545332222c2274696d657374616d70223a22323032362d31312d32315430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a2257222c22646973706c61795f6e616d65223a2257227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=b063e109627e436cc76fec789e71a23821df72598c54841095ac77f86e0c4ede"}');
INSERT INTO public.bodies VALUES (1839152895510654665, '\x7b2274797065223a2270726f647563742e75706461746564222c227265736f75726365223a2270726f6475637473222c226964223a22574149545333222c2274696d657374616d70223a22323032362d31312d32315430393a30303a30305a222c2264617461223a7b2270726f647563745f636f6465223a2257222c22646973706c61795f6e616d65223a2257227d7d', NULL, '{"content-type":"application/x-www-form-urlencoded","user-agent":"Python-urllib/3.11","x-webhook-signature":"sha256=7cac6465d90e88ea4ef6dfff8a30d7bff452db3d405496a1f33fea9d655c392f"}');
INSERT INTO public.changes VALUES (1, 'products', 'sigma', 'ent-nordic-jacket-432-776b-0', 'insert', '{}', '{"sku":null,"name":null,"price":null,"currency":null,"parent":null,"lifecycle_state":"draft","data":{"entityId":"ent-nordic-jacket-432-776b-0","schemaId":"schema-outdoor","lifecycleState":"draft","createdBy":"user-admin"},"active":true}', 1839152852815916449, '2026-11-30 14:08:32.602+00', '2026-11-30 14:08:27.94809+00', NULL);
INSERT INTO public.changes VALUES (2, 'groups', 'iimmpact', 'COASTALBICYCLE5520', 'insert', '{}', '{"sku":null,"name":"Coastal Bicycle 552","price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"id":"COASTALBICYCLE5520","name":"Coastal Bicycle 552","icon_url":"https://images.example.com/COASTALBICYCLE5520.png"},"active":true}', 1839152852898998689, '2026-11-30 14:08:32.602+00', '2026-11-30 14:08:27.94809+00', NULL);
INSERT INTO public.changes VALUES (3, 'products', 'sticky', '21', 'insert', '{}', '{"sku":"QRNJFNMM4R","name":"Nordic Bicycle 720","price":"129.3900","currency":null,"parent":"5","lifecycle_state":null,"data":{"id":21,"name":"Nordic Bicycle 720","sku":"QRNJFNMM4R","vertical":{"id":2,"name":"Home"},"category":{"id":5,"name":"Magazine","description":"Mag01"},"max_quantity":10,"description":"A alpine headset, red.","images":[],"custom_fields":[{"id":1,"field_type_id":1,"name":"material","token_key":"test_product_field","is_multi":0,"type_id":3,"values":[{"option_id":0,"value":"material 21","name":"material"}]}],"is_taxable":1,"tax_code":"123456ABC","digital_download_url":"","is_shippable":1,"created_at":"2026-11-30T09:08:32-05:00","updated_at":"2026-11-30T09:08:32-05:00","type":"product","price":"129.3900","cost_of_goods":"0.00","restocking_fee":"0.00","variants":[]},"active":true}', 1839152852899004833, '2026-11-30 14:08:32+00', '2026-11-30 14:08:27.94809+00', NULL);
INSERT INTO public.changes VALUES (4, 'records', 'indexed', 'order:orde_17fbca_41', 'insert', '{}', '{"sku":null,"name":null,"price":null,"currency":null,"parent":null,"lifecycle_state":"discontinued","data":{"id":41,"externalId":"orde_17fbca_41","number":"SO-34719","total":792.36,"status":"discontinued","createdAt":"2026-11-30T14:08:32+00:00","updatedAt":"2026-11-30T14:08:32+00:00"},"kind":"order","active":true}', 1839152852899006881, '2026-11-30 14:08:32+00', '2026-11-30 14:08:27.94809+00', NULL);
INSERT INTO public.changes VALUES (5, 'products', 'sigma', 'C1', 'insert', '{}', '{"sku":null,"name":null,"price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"entityId":"C1","schemaId":"s"},"active":true}', 1839152859771072929, '2026-11-20 09:00:00.125+00', '2026-11-30 14:08:34.638855+00', NULL);
INSERT INTO public.changes VALUES (6, 'products', 'sigma', 'C2', 'insert', '{}', '{"sku":null,"name":null,"price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"entityId":"C2","schemaId":"s"},"active":true}', 1839152859784344993, '2026-11-20 09:00:00.125+00', '2026-11-30 14:08:34.702883+00', NULL);
INSERT INTO public.changes VALUES (7, 'products', 'iimmpact', 'TIE', 'insert', '{}', '{"sku":"TIE","name":"A","price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"product_code":"TIE","display_name":"A"},"active":true}', 1839152859883568545, '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.795631+00', NULL);
INSERT INTO public.changes VALUES (8, 'products', 'iimmpact', 'TIE', 'update', '{"name":"A","data":{"product_code":"TIE","display_name":"A"}}', '{"name":"B","data":{"product_code":"TIE","display_name":"B"}}', 1839152859913243041, '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.824986+00', NULL);
INSERT INTO public.changes VALUES (9, 'products', 'iimmpact', 'STALE', 'insert', '{}', '{"sku":"STALE","name":"A","price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"product_code":"STALE","display_name":"A"},"active":true}', 1839152859925302689, '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.824986+00', NULL);
INSERT INTO public.changes VALUES (10, 'products', 'iimmpact', 'GONE', 'insert', '{}', '{"sku":null,"name":null,"price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":null,"active":false}', 1839152859953710497, '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.824986+00', NULL);
INSERT INTO public.changes VALUES (11, 'products', 'iimmpact', 'ü�x', 'insert', '{}', '{"sku":"NUL","name":"a�b","price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"product_code":"NUL","display_name":"a\u0000b"},"active":true}', 1839152859957010849, '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.824986+00', NULL);
INSERT INTO public.changes VALUES (12, 'products', 'iimmpact', 'HUGE', 'insert', '{}', '{"sku":"H","name":"h","price":null,"currency":null,"parent":null,"lifecycle_state":null,"data":{"product_code":"H","display_name":"h","x":1E+400},"active":true}', 1839152859975290273, '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.950863+00', NULL);
INSERT INTO public.dead_changes VALUES ('erp', 3, 'products', 'sticky', '21', 'dead', 422, 'The target answered 422: no.', 1, '2026-11-30 14:08:50.840595+00');
INSERT INTO public.dedup_keys VALUES ('sigma', 'del-f49beb79ed2b', '\xff0bd6417306986bd39ea3182bfba127be52066c611475eadf25f59154871574', 1839152852815916449);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1796047712602000-fc1584fd8cf739ca83f32305ef406f49fe743283923d3e0fb2beb00441462742', '\xfc1584fd8cf739ca83f32305ef406f49fe743283923d3e0fb2beb00441462742', 1839152852898998689);
INSERT INTO public.dedup_keys VALUES ('indexed', '1796047712000000-74847a91c0637e7c72798ea3a557177d69f62cbb73fb80bb2b669e2f942f238b', '\x74847a91c0637e7c72798ea3a557177d69f62cbb73fb80bb2b669e2f942f238b', 1839152852899006881);
INSERT INTO public.dedup_keys VALUES ('sticky', '["66e854bb-0000-4513-a96a-67bb952147ac","product.created","21"]', '\xbe7d1f4414a31c4c3c21348bbdc61266267532eeb27224b4a12b130062137c0b', 1839152852899004833);
INSERT INTO public.dedup_keys VALUES ('sigma', 'del-conf', '\x96edebe245740558170413b8374d757bcf7928af411573105ad44d36cc23d75b', 1839152859771072929);
INSERT INTO public.dedup_keys VALUES ('sigma', 'del-conf#d64345b1e01c8d9fd4283db60c16fda09d131d97858a96e2c97b937886e78755', '\xd64345b1e01c8d9fd4283db60c16fda09d131d97858a96e2c97b937886e78755', 1839152859784344993);
INSERT INTO public.dedup_keys VALUES ('sigma', 'del-ign', '\x75f7bd5e59a123ecac3957807dd35504f5203ba933a5d1b53fe67aaf6e0cce80', 1839152859832321441);
INSERT INTO public.dedup_keys VALUES ('sigma', '92628a747890d02d1459c6eb45fd13cfa63bbb6d346412cff190297cf9c33d39', '\x92628a747890d02d1459c6eb45fd13cfa63bbb6d346412cff190297cf9c33d39', 1839152859851458977);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '7cdebc2d59f9db8f1f1ed68d035c120e07bbc5a22f292e70252302eb6595ce04', '\x7cdebc2d59f9db8f1f1ed68d035c120e07bbc5a22f292e70252302eb6595ce04', 1839152859876702625);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-8362ecfa18b457be1676ac300822eea0713ed734138f09ae0ee22795e729e4be', '\x8362ecfa18b457be1676ac300822eea0713ed734138f09ae0ee22795e729e4be', 1839152859883568545);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-58e05c14739bba0b8a3b6ee8dfccea8d133c717888d17a89f4536b113e9592f1', '\x58e05c14739bba0b8a3b6ee8dfccea8d133c717888d17a89f4536b113e9592f1', 1839152859913243041);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-688f38b51e928211c77e2d62302a77737e516ca1d974dc259d8af6a5fc21558b', '\x688f38b51e928211c77e2d62302a77737e516ca1d974dc259d8af6a5fc21558b', 1839152859925302689);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795078800000000-1f2397257c55e4c92b217905fe45be91a5d755d5556aacfd459f026fd5077173', '\x1f2397257c55e4c92b217905fe45be91a5d755d5556aacfd459f026fd5077173', 1839152859946516897);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-f49d1312709717a92e702627b56c9788438b09693365f62aab9bd72145178927', '\xf49d1312709717a92e702627b56c9788438b09693365f62aab9bd72145178927', 1839152859953710497);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-8583f368abf868857ca2894a3885fdd2a1d1a7278d9a6d4e72c0ace497f8352d', '\x8583f368abf868857ca2894a3885fdd2a1d1a7278d9a6d4e72c0ace497f8352d', 1839152859957010849);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795165200000000-0021957a88e201fc29016133d3b062e6c6765e590d91162a9e2900d8d76bd8c8', '\x0021957a88e201fc29016133d3b062e6c6765e590d91162a9e2900d8d76bd8c8', 1839152859975290273);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795251600000000-23eef78a3abd8432ce999d7a7f7b104dcde317a00ca4b94e2d1704711f701206', '\x23eef78a3abd8432ce999d7a7f7b104dcde317a00ca4b94e2d1704711f701206', 1839152895426796233);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795251600000000-932d6be962503da53f87f45bebe2b8e1b863f913f1ebc54950acb39ac64e6271', '\x932d6be962503da53f87f45bebe2b8e1b863f913f1ebc54950acb39ac64e6271', 1839152895482328777);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795251600000000-5c3bcc2cf5112a4475107c97f3d501a64fd89bae158bda84959b4d4d4a172984', '\x5c3bcc2cf5112a4475107c97f3d501a64fd89bae158bda84959b4d4d4a172984', 1839152895495194313);
INSERT INTO public.dedup_keys VALUES ('iimmpact', '1795251600000000-3c2941d9d6edda709edb8a1504ab7839ffd3cf2aa0a9b16c223670bfa6a1e6fc', '\x3c2941d9d6edda709edb8a1504ab7839ffd3cf2aa0a9b16c223670bfa6a1e6fc', 1839152895510654665);
INSERT INTO public.deliveries VALUES (1839152852898998689, 'iimmpact', 'group.created', 'group', 'COASTALBICYCLE5520', '2026-11-30 14:08:32.602+00', '2026-11-30 14:08:27.834654+00', 'processed', 1, '2026-11-30 14:08:27.834654+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:08:27.94809+00', '1796047712602000-fc1584fd8cf739ca83f32305ef406f49fe743283923d3e0fb2beb00441462742', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152852899004833, 'sticky', 'product.created', 'product', '21', '2026-11-30 14:08:32+00', '2026-11-30 14:08:27.83504+00', 'processed', 1, '2026-11-30 14:08:27.83504+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:08:27.94809+00', '["66e854bb-0000-4513-a96a-67bb952147ac","product.created","21"]', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152852899006881, 'indexed', 'order.created', 'order', 'orde_17fbca_41', '2026-11-30 14:08:32+00', '2026-11-30 14:08:27.837435+00', 'processed', 1, '2026-11-30 14:08:27.837435+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:08:27.94809+00', '1796047712000000-74847a91c0637e7c72798ea3a557177d69f62cbb73fb80bb2b669e2f942f238b', false, 0, 27, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859832321441, 'sigma', 'nothing.known', NULL, NULL, '2026-11-20 09:00:00.125+00', '2026-11-30 14:08:34.679386+00', 'ignored', 0, '2026-11-30 14:08:34.679386+00', false, NULL, NULL, NULL, 'No handler takes nothing.known.', '2026-11-30 14:08:34.679386+00', 'del-ign', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859851458977, 'sigma', NULL, NULL, NULL, NULL, '2026-11-30 14:08:34.698084+00', 'dead', 0, '2026-11-30 14:08:34.698084+00', false, NULL, NULL, NULL, 'The body is not JSON: it looks like plain text. Let the sender send JSON, as application/json.', '2026-11-30 14:08:34.698084+00', '92628a747890d02d1459c6eb45fd13cfa63bbb6d346412cff190297cf9c33d39', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859883568545, 'iimmpact', 'product.updated', 'product', 'TIE', '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.72975+00', 'processed', 1, '2026-11-30 14:08:34.72975+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:08:34.795631+00', '1795165200000000-8362ecfa18b457be1676ac300822eea0713ed734138f09ae0ee22795e729e4be', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859913243041, 'iimmpact', 'product.updated', 'product', 'TIE', '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.758755+00', 'processed', 1, '2026-11-30 14:08:34.758755+00', false, NULL, NULL, 'tie', NULL, '2026-11-30 14:08:34.824986+00', '1795165200000000-58e05c14739bba0b8a3b6ee8dfccea8d133c717888d17a89f4536b113e9592f1', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859925302689, 'iimmpact', 'product.updated', 'product', 'STALE', '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.769885+00', 'processed', 1, '2026-11-30 14:08:34.769885+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:08:34.824986+00', '1795165200000000-688f38b51e928211c77e2d62302a77737e516ca1d974dc259d8af6a5fc21558b', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859953710497, 'iimmpact', 'product.deleted', 'product', 'GONE', '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.797728+00', 'processed', 1, '2026-11-30 14:08:34.797728+00', false, NULL, NULL, 'applied', NULL, '2026-11-30 14:08:34.824986+00', '1795165200000000-f49d1312709717a92e702627b56c9788438b09693365f62aab9bd72145178927', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859946516897, 'iimmpact', 'product.updated', 'product', 'STALE', '2026-11-19 09:00:00+00', '2026-11-30 14:08:34.79116+00', 'processed', 1, '2026-11-30 14:08:34.79116+00', false, NULL, NULL, 'stale', NULL, '2026-11-30 14:08:34.824986+00', '1795078800000000-1f2397257c55e4c92b217905fe45be91a5d755d5556aacfd459f026fd5077173', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859975290273, 'iimmpact', 'product.updated', 'product', 'HUGE', '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.818768+00', 'processed', 1, '2026-11-30 14:08:38.161499+00', false, NULL, NULL, 'unchanged', NULL, '2026-11-30 14:08:38.266607+00', '1795165200000000-0021957a88e201fc29016133d3b062e6c6765e590d91162a9e2900d8d76bd8c8', false, 0, 0, 2, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859876702625, 'iimmpact', NULL, NULL, NULL, NULL, '2026-11-30 14:08:34.722852+00', 'dead', 1, '2026-11-30 14:08:38.263847+00', false, NULL, NULL, NULL, 'The body is not what the dialect expects: timestamp: Value error, a time is ISO 8601 text.', '2026-11-30 14:08:38.276779+00', '7cdebc2d59f9db8f1f1ed68d035c120e07bbc5a22f292e70252302eb6595ce04', false, 0, 0, 2, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859957010849, 'iimmpact', 'product.updated', 'product', 'ü�x', '2026-11-20 09:00:00+00', '2026-11-30 14:08:34.801355+00', 'processed', 1, '2026-11-30 14:08:38.232962+00', false, NULL, NULL, 'unchanged', NULL, '2026-11-30 14:08:38.276779+00', '1795165200000000-8583f368abf868857ca2894a3885fdd2a1d1a7278d9a6d4e72c0ace497f8352d', false, 0, 0, 2, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152852815916449, 'sigma', 'entity.created', 'entity', 'ent-nordic-jacket-432-776b-0', '2026-11-30 14:08:32.602+00', '2026-11-30 14:08:27.827105+00', 'processed', 1, '2026-11-30 14:08:41.861055+00', false, NULL, NULL, 'unchanged', NULL, '2026-11-30 14:08:42.12945+00', 'del-f49beb79ed2b', false, 0, 0, 2, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859771072929, 'sigma', 'entity.updated', 'entity', 'C1', '2026-11-20 09:00:00.125+00', '2026-11-30 14:08:34.619786+00', 'processed', 1, '2026-11-30 14:08:41.861055+00', false, NULL, NULL, 'unchanged', NULL, '2026-11-30 14:08:42.12945+00', 'del-conf', false, 0, 0, 2, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152859784344993, 'sigma', 'entity.updated', 'entity', 'C2', '2026-11-20 09:00:00.125+00', '2026-11-30 14:08:34.632402+00', 'processed', 1, '2026-11-30 14:08:41.861055+00', false, NULL, NULL, 'unchanged', NULL, '2026-11-30 14:08:42.12945+00', 'del-conf#d64345b1e01c8d9fd4283db60c16fda09d131d97858a96e2c97b937886e78755', true, 0, 0, 2, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152895426796233, 'iimmpact', 'product.updated', 'product', 'WAITS0', '2026-11-21 09:00:00+00', '2026-11-30 14:09:09.4398+00', 'pending', 0, '2026-11-30 14:09:09.4398+00', false, NULL, NULL, NULL, NULL, NULL, '1795251600000000-23eef78a3abd8432ce999d7a7f7b104dcde317a00ca4b94e2d1704711f701206', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152895482328777, 'iimmpact', 'product.updated', 'product', 'WAITS1', '2026-11-21 09:00:00+00', '2026-11-30 14:09:09.492525+00', 'pending', 0, '2026-11-30 14:09:09.492525+00', false, NULL, NULL, NULL, NULL, NULL, '1795251600000000-932d6be962503da53f87f45bebe2b8e1b863f913f1ebc54950acb39ac64e6271', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152895495194313, 'iimmpact', 'product.updated', 'product', 'WAITS2', '2026-11-21 09:00:00+00', '2026-11-30 14:09:09.506706+00', 'pending', 0, '2026-11-30 14:09:09.506706+00', false, NULL, NULL, NULL, NULL, NULL, '1795251600000000-5c3bcc2cf5112a4475107c97f3d501a64fd89bae158bda84959b4d4d4a172984', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.deliveries VALUES (1839152895510654665, 'iimmpact', 'product.updated', 'product', 'WAITS3', '2026-11-21 09:00:00+00', '2026-11-30 14:09:09.521832+00', 'processing', 1, '2026-11-30 14:09:09.521832+00', false, 'gone.example:1:00000000', '2026-11-30 14:08:09.845548+00', NULL, NULL, NULL, '1795251600000000-3c2941d9d6edda709edb8a1504ab7839ffd3cf2aa0a9b16c223670bfa6a1e6fc', false, 0, 0, 1, NULL, NULL);
INSERT INTO public.duties VALUES ('findings', 'erp.example:235ef2484e:28210:291293:88220279', '2026-11-30 14:09:00.627783+00');
INSERT INTO public.followers VALUES ('erp', 'http://127.0.0.1:47943/in', 'this machine', NULL, NULL, 12, 'c8bc996706813460', 'erp.example:235ef2484e:28893:294467:00bc7587', '2026-11-30 14:08:51.967037+00', '2026-11-30 14:08:50.746273+00', '2026-11-30 14:08:50.919303+00', NULL, NULL);
INSERT INTO public.groups VALUES ('iimmpact', 'COASTALBICYCLE5520', true, '2026-11-30 14:08:32.602+00', NULL, false, '{"own":true,"at":[[1796047712602000,1,1839152852898998689,"active","name","data"]]}', NULL, 'Coastal Bicycle 552', NULL, NULL, NULL, NULL, '{"id":"COASTALBICYCLE5520","name":"Coastal Bicycle 552","icon_url":"https://images.example.com/COASTALBICYCLE5520.png"}');
INSERT INTO public.identity VALUES (1, '47fe82f50e384af899c17deca3ca7a17');
INSERT INTO public.processes VALUES ('erp.example:235ef2484e:29424:296272:a3aeb262', 'erp.example', 29424, 'endpoint', '0.1.0', 'receiver 0013, catalog 0002', '26df5d99082da82e', '["source iimmpact speaks iimmpact","source indexed speaks indexed","source sigma speaks sigma","source sticky speaks sticky","iimmpact gives category.created to handlers.iimmpact.upsert_category","iimmpact gives category.deleted to handlers.iimmpact.deactivate","iimmpact gives category.updated to handlers.iimmpact.upsert_category","iimmpact gives group.created to handlers.iimmpact.upsert_group","iimmpact gives group.deleted to handlers.iimmpact.deactivate","iimmpact gives group.updated to handlers.iimmpact.upsert_group","iimmpact gives option.created to handlers.iimmpact.upsert_option","iimmpact gives option.deleted to handlers.iimmpact.deactivate","iimmpact gives option.updated to handlers.iimmpact.upsert_option","iimmpact gives product.created to handlers.iimmpact.upsert_product","iimmpact gives product.deleted to handlers.iimmpact.deactivate","iimmpact gives product.updated to handlers.iimmpact.upsert_product","indexed gives *.create to handlers.indexed.upsert","indexed gives *.created to handlers.indexed.upsert","indexed gives *.delete to handlers.indexed.deactivate","indexed gives *.deleted to handlers.indexed.deactivate","indexed gives *.update to handlers.indexed.upsert","indexed gives *.updated to handlers.indexed.upsert","sigma gives entity.created to handlers.sigma.upsert_entity","sigma gives entity.deleted to handlers.sigma.deactivate_entity","sigma gives entity.transition to handlers.sigma.upsert_entity","sigma gives entity.updated to handlers.sigma.upsert_entity","sigma gives variant.created to handlers.sigma.upsert_variant","sigma gives variant.deleted to handlers.sigma.deactivate_variant","sigma gives variant.updated to handlers.sigma.upsert_variant","sticky gives bulk.variant.created to handlers.sticky.upsert_variants","sticky gives bulk.variant.deleted to handlers.sticky.deactivate_variants","sticky gives bulk.variant.updated to handlers.sticky.upsert_variants","sticky gives product.created to handlers.sticky.upsert_product","sticky gives product.deleted to handlers.sticky.deactivate_product","sticky gives product.updated to handlers.sticky.upsert_product","sticky gives variant.created to handlers.sticky.upsert_variants","sticky gives variant.deleted to handlers.sticky.deactivate_variants","sticky gives variant.updated to handlers.sticky.upsert_variants","module handlers.api has the source text f0a630291c26b738","module handlers.catalog has the source text d6940bbf9316e1bc","module handlers.eastern has the source text 3693428551fd07cd","module handlers.iimmpact has the source text 824e4e3c97b102a9","module handlers.iimmpact_auth has the source text c06631fdc761dd30","module handlers.indexed has the source text 81be8465e85439a3","module handlers.sigma has the source text 0705d337c81638cb","module handlers.sticky has the source text 619db41c371f5886","module handlers.values has the source text 1162f6c9051a2caf"]', '2026-11-30 14:09:07.540992+00', '2026-11-30 14:09:09.39045+00', '{"read_at":"2026-11-30T14:09:09.375992+00:00","refused":null,"needs_restart":[],"files":["/etc/hookmirror/settings.toml"]}');
INSERT INTO public.products VALUES ('sticky', '21', true, '2026-11-30 14:08:32+00', NULL, false, '{"own":true,"at":[[1796047712000000,1,1839152852899004833,"active","sku","name","price","parent","data"]],"gone":{"variants":[1796047712000000,0,1839152852899004833]}}', 'QRNJFNMM4R', 'Nordic Bicycle 720', 129.3900, NULL, '5', NULL, '{"id":21,"name":"Nordic Bicycle 720","sku":"QRNJFNMM4R","vertical":{"id":2,"name":"Home"},"category":{"id":5,"name":"Magazine","description":"Mag01"},"max_quantity":10,"description":"A alpine headset, red.","images":[],"custom_fields":[{"id":1,"field_type_id":1,"name":"material","token_key":"test_product_field","is_multi":0,"type_id":3,"values":[{"option_id":0,"value":"material 21","name":"material"}]}],"is_taxable":1,"tax_code":"123456ABC","digital_download_url":"","is_shippable":1,"created_at":"2026-11-30T09:08:32-05:00","updated_at":"2026-11-30T09:08:32-05:00","type":"product","price":"129.3900","cost_of_goods":"0.00","restocking_fee":"0.00","variants":[]}');
INSERT INTO public.products VALUES ('iimmpact', 'GONE', false, '2026-11-20 09:00:00+00', '2026-11-20 09:00:00+00', false, '{"own":false,"at":[[1795165200000000,2,1839152859953710497,"active"]],"gone":{"variants":[1795165200000000,2,1839152859953710497]}}', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.products VALUES ('iimmpact', 'STALE', true, '2026-11-20 09:00:00+00', NULL, false, '{"own":true,"at":[[1795165200000000,1,1839152859925302689,"active","name","sku","data"]]}', 'STALE', 'A', NULL, NULL, NULL, NULL, '{"product_code":"STALE","display_name":"A"}');
INSERT INTO public.products VALUES ('iimmpact', 'TIE', true, '2026-11-20 09:00:00+00', NULL, true, '{"own":true,"at":[[1795165200000000,1,1839152859913243041,"active","name","sku","data"]],"ties":["data","name"]}', 'TIE', 'B', NULL, NULL, NULL, NULL, '{"product_code":"TIE","display_name":"B"}');
INSERT INTO public.products VALUES ('iimmpact', 'HUGE', true, '2026-11-20 09:00:00+00', NULL, false, '{"own":true,"at":[[1795165200000000,1,1839152859975290273,"active","name","sku","data"]]}', 'H', 'h', NULL, NULL, NULL, NULL, '{"product_code":"H","display_name":"h","x":1E+400}');
INSERT INTO public.products VALUES ('iimmpact', 'ü�x', true, '2026-11-20 09:00:00+00', NULL, false, '{"own":true,"at":[[1795165200000000,1,1839152859957010849,"active","name","sku","data"]]}', 'NUL', 'a�b', NULL, NULL, NULL, NULL, '{"product_code":"NUL","display_name":"a\u0000b"}');
INSERT INTO public.products VALUES ('sigma', 'C1', true, '2026-11-20 09:00:00.125+00', NULL, false, '{"own":true,"at":[[1795165200125000,1,1839152859771072929,"active","data"]]}', NULL, NULL, NULL, NULL, NULL, NULL, '{"entityId":"C1","schemaId":"s"}');
INSERT INTO public.products VALUES ('sigma', 'C2', true, '2026-11-20 09:00:00.125+00', NULL, false, '{"own":true,"at":[[1795165200125000,1,1839152859784344993,"active","data"]]}', NULL, NULL, NULL, NULL, NULL, NULL, '{"entityId":"C2","schemaId":"s"}');
INSERT INTO public.products VALUES ('sigma', 'ent-nordic-jacket-432-776b-0', true, '2026-11-30 14:08:32.602+00', NULL, false, '{"own":true,"at":[[1796047712602000,1,1839152852815916449,"active","lifecycle_state","data"]]}', NULL, NULL, NULL, NULL, NULL, 'draft', '{"entityId":"ent-nordic-jacket-432-776b-0","schemaId":"schema-outdoor","lifecycleState":"draft","createdBy":"user-admin"}');
INSERT INTO public.records VALUES ('indexed', 'order:orde_17fbca_41', true, '2026-11-30 14:08:32+00', NULL, false, '{"own":true,"at":[[1796047712000000,1,1839152852899006881,"active","lifecycle_state","kind","data.id","data.externalId","data.number","data.total","data.status","data.createdAt","data.updatedAt"]]}', NULL, NULL, NULL, NULL, NULL, 'discontinued', '{"id":41,"externalId":"orde_17fbca_41","number":"SO-34719","total":792.36,"status":"discontinued","createdAt":"2026-11-30T14:08:32+00:00","updatedAt":"2026-11-30T14:08:32+00:00"}', 'order');
INSERT INTO public.rounds VALUES (1839152859975290273, 1, 'accepted', NULL, NULL, '2026-11-30 14:08:34.818768+00', 'processed', 'applied', NULL, '2026-11-30 14:08:34.950863+00');
INSERT INTO public.rounds VALUES (1839152859975290273, 2, 'replay', NULL, 1, '2026-11-30 14:08:38.161499+00', NULL, NULL, NULL, NULL);
INSERT INTO public.rounds VALUES (1839152859957010849, 1, 'accepted', NULL, NULL, '2026-11-30 14:08:34.801355+00', 'processed', 'applied', NULL, '2026-11-30 14:08:34.824986+00');
INSERT INTO public.rounds VALUES (1839152859957010849, 2, 'replay', NULL, 2, '2026-11-30 14:08:38.232962+00', NULL, NULL, NULL, NULL);
INSERT INTO public.rounds VALUES (1839152859876702625, 1, 'accepted', NULL, NULL, '2026-11-30 14:08:34.722852+00', 'dead', NULL, 'The body is not what the dialect expects: timestamp: Value error, a time is ISO 8601 text.', '2026-11-30 14:08:34.722852+00');
INSERT INTO public.rounds VALUES (1839152859876702625, 2, 'replay', NULL, 3, '2026-11-30 14:08:38.263847+00', NULL, NULL, NULL, NULL);
INSERT INTO public.rounds VALUES (1839152852815916449, 1, 'accepted', NULL, NULL, '2026-11-30 14:08:27.827105+00', 'processed', 'applied', NULL, '2026-11-30 14:08:27.94809+00');
INSERT INTO public.rounds VALUES (1839152859771072929, 1, 'accepted', NULL, NULL, '2026-11-30 14:08:34.619786+00', 'processed', 'applied', NULL, '2026-11-30 14:08:34.638855+00');
INSERT INTO public.rounds VALUES (1839152859784344993, 1, 'accepted', NULL, NULL, '2026-11-30 14:08:34.632402+00', 'processed', 'applied', NULL, '2026-11-30 14:08:34.702883+00');
INSERT INTO public.rounds VALUES (1839152852815916449, 2, 'replay', 1, NULL, '2026-11-30 14:08:41.861055+00', NULL, NULL, NULL, NULL);
INSERT INTO public.rounds VALUES (1839152859771072929, 2, 'replay', 1, NULL, '2026-11-30 14:08:41.861055+00', NULL, NULL, NULL, NULL);
INSERT INTO public.rounds VALUES (1839152859784344993, 2, 'replay', 1, NULL, '2026-11-30 14:08:41.861055+00', NULL, NULL, NULL, NULL);
INSERT INTO public.run_deliveries VALUES (2, 1839152852899004833, 'waiting', 'unchanged', NULL, NULL, NULL);
INSERT INTO public.run_deliveries VALUES (3, 1839152859851458977, 'waiting', 'dead', 'The body is not JSON: it looks like plain text. Let the sender send JSON, as application/json.', NULL, NULL);
INSERT INTO public.run_deliveries VALUES (4, 1839152852899006881, 'waiting', 'unchanged', NULL, NULL, NULL);
INSERT INTO public.run_deliveries VALUES (1, 1839152852815916449, 'ended', 'unchanged', NULL, 'unchanged', NULL);
INSERT INTO public.run_deliveries VALUES (1, 1839152859771072929, 'ended', 'unchanged', NULL, 'unchanged', NULL);
INSERT INTO public.run_deliveries VALUES (1, 1839152859784344993, 'ended', 'unchanged', NULL, 'unchanged', NULL);
INSERT INTO public.run_turns VALUES ('replay', 'indexed', 4);
INSERT INTO public.run_turns VALUES ('replay', 'sigma', 3);
INSERT INTO public.runs VALUES (1, 'replay', '["sigma"]', '{"source":"sigma","state":"processed"}', 'done', 3, 3, '{"unchanged":3}', '{"after":1839152859784344993,"fed":true}', '{"made_at":"2026-11-30T14:08:40.812932+00:00","deliveries":3,"tried":3,"partial":null,"outcomes":{"unchanged":3},"reasons":[],"rows":{},"rows_shown":0}', '0.1.0', '26df5d99082da82e', 'api', '2026-11-30 14:08:40.286472+00', 'api', '2026-11-30 14:08:41.023306+00', 'fixed', '2026-11-30 14:08:42.284433+00', NULL, NULL, NULL);
INSERT INTO public.runs VALUES (2, 'replay', '["sticky"]', '{"source":"sticky","state":"processed"}', 'cancelled', 1, 0, '{}', '{"after":1839152852899004833,"until":1839152859975290273,"frozen":true}', '{"made_at":"2026-11-30T14:08:40.868631+00:00","deliveries":1,"tried":1,"partial":null,"outcomes":{"unchanged":1},"reasons":[],"rows":{},"rows_shown":0}', '0.1.0', '26df5d99082da82e', 'api', '2026-11-30 14:08:40.315015+00', NULL, NULL, NULL, '2026-11-30 14:08:42.601198+00', NULL, NULL, NULL);
INSERT INTO public.runs VALUES (3, 'replay', '["sigma"]', '{"source":"sigma","state":"dead"}', 'running', 1, 0, '{}', NULL, '{"made_at":"2026-11-30T14:08:40.887260+00:00","deliveries":1,"tried":1,"partial":null,"outcomes":{"dead":1},"reasons":[{"reason":"dead: The body is not JSON: it looks like plain text. Let the sender send JSON, as application/json.","deliveries":1}],"rows":{},"rows_shown":0}', '0.1.0', '26df5d99082da82e', 'api', '2026-11-30 14:08:40.342774+00', 'api', '2026-11-30 14:09:09.534691+00', 'after a fix', NULL, NULL, NULL, NULL);
INSERT INTO public.runs VALUES (4, 'replay', '["indexed"]', '{"source":"indexed","state":"processed"}', 'running', 1, 0, '{}', NULL, '{"made_at":"2026-11-30T14:08:40.893961+00:00","deliveries":1,"tried":1,"partial":null,"outcomes":{"unchanged":1},"reasons":[],"rows":{},"rows_shown":0}', '0.1.0', '26df5d99082da82e', 'api', '2026-11-30 14:08:40.361973+00', 'api', '2026-11-30 14:09:00.269799+00', 'again', NULL, NULL, NULL, NULL);
INSERT INTO public.runs VALUES (5, 'replay', '[]', '{"source":"sticky","state":"processed"}', 'planning', 0, 0, '{}', NULL, NULL, '0.1.0', '26df5d99082da82e', 'api', '2026-11-30 14:09:09.722554+00', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.sessions VALUES ('e691b340bd62ebc2be5bf483a0daddda3603f6261c30a0af2367affe2d83d716', '550ec978f58e9fb0be2e147d97cb3a24b4f9b5265a29c94768f872e422953b2f', 'Ann', 'operator', '2026-11-30 14:09:00.246755+00', '2026-11-30 14:09:00.246755+00', '2026-12-01 02:09:00.246755+00');
INSERT INTO public.settlements VALUES ('2026-11-30 14:08:27.94809+00', 7514445563956373266, 'erp.example:235ef2484e:28210:291293:1d43df9c', '0.1.0', 122433, '[{"handler":"handlers.sigma.upsert_entity","round":1,"number":1,"deliveries":[1839152852815916449],"hydrate_us":[],"handle_us":[116]},{"handler":"handlers.iimmpact.upsert_group","round":1,"number":1,"deliveries":[1839152852898998689],"hydrate_us":[],"handle_us":[40]},{"handler":"handlers.sticky.upsert_product","round":1,"number":1,"deliveries":[1839152852899004833],"hydrate_us":[],"handle_us":[49]},{"handler":"handlers.indexed.upsert","round":1,"number":1,"deliveries":[1839152852899006881],"hydrate_us":[],"handle_us":[62]}]');
INSERT INTO public.settlements VALUES ('2026-11-30 14:08:34.638855+00', 2910987297522582616, 'erp.example:235ef2484e:28210:291293:1d43df9c', '0.1.0', 5812, '[{"handler":"handlers.sigma.upsert_entity","round":1,"number":1,"deliveries":[1839152859771072929],"hydrate_us":[],"handle_us":[58]}]');
INSERT INTO public.settlements VALUES ('2026-11-30 14:08:34.702883+00', 2030076648394044482, 'erp.example:235ef2484e:28210:291293:1d43df9c', '0.1.0', 16724, '[{"handler":"handlers.sigma.upsert_entity","round":1,"number":1,"deliveries":[1839152859784344993],"hydrate_us":[],"handle_us":[63]}]');
INSERT INTO public.settlements VALUES ('2026-11-30 14:08:34.795631+00', 3551995933206355507, 'erp.example:235ef2484e:28210:291293:1d43df9c', '0.1.0', 3712, '[{"handler":"handlers.iimmpact.upsert_product","round":1,"number":1,"deliveries":[1839152859883568545],"hydrate_us":[],"handle_us":[61]}]');
INSERT INTO public.settlements VALUES ('2026-11-30 14:08:34.824986+00', 6499701484754835647, 'erp.example:235ef2484e:28210:291293:1d43df9c', '0.1.0', 34124, '[{"handler":"handlers.iimmpact.upsert_product","round":1,"number":1,"deliveries":[1839152859913243041,1839152859925302689,1839152859946516897,1839152859957010849],"hydrate_us":[],"handle_us":[58,14,11,13]},{"handler":"handlers.iimmpact.deactivate","round":1,"number":1,"deliveries":[1839152859953710497],"hydrate_us":[],"handle_us":[54]}]');
INSERT INTO public.settlements VALUES ('2026-11-30 14:08:34.950863+00', 8465933599765434873, 'erp.example:235ef2484e:28210:291293:1d43df9c', '0.1.0', 27650, '[{"handler":"handlers.iimmpact.upsert_product","round":1,"number":1,"deliveries":[1839152859975290273],"hydrate_us":[],"handle_us":[65]}]');
INSERT INTO public.settlements VALUES ('2026-11-30 14:08:38.266607+00', 5454815954548581170, 'erp.example:235ef2484e:28210:291293:1d43df9c', '0.1.0', 2599, '[{"handler":"handlers.iimmpact.upsert_product","round":2,"number":1,"deliveries":[1839152859975290273],"hydrate_us":[],"handle_us":[54]}]');
INSERT INTO public.settlements VALUES ('2026-11-30 14:08:38.276779+00', 6500485716967927644, 'erp.example:235ef2484e:28210:291293:1d43df9c', '0.1.0', 1744, '[{"handler":"handlers.iimmpact.upsert_product","round":2,"number":1,"deliveries":[1839152859957010849],"hydrate_us":[],"handle_us":[49]}]');
INSERT INTO public.settlements VALUES ('2026-11-30 14:08:42.12945+00', 3138974679128404855, 'erp.example:235ef2484e:28210:291293:1d43df9c', '0.1.0', 5551, '[{"handler":"handlers.sigma.upsert_entity","round":2,"number":1,"deliveries":[1839152852815916449,1839152859771072929,1839152859784344993],"hydrate_us":[],"handle_us":[52,15,9]}]');
INSERT INTO public.tallies VALUES (60, '', 'running', '2026-11-30 14:08:00+00', '0.1.0 26df5d99082da82e', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, '', 'watched', '2026-11-30 14:08:00+00', '', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'sigma', 'accepted', '2026-11-30 14:09:00+00', '', '88220279', 5, 0);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'accepted', '2026-11-30 14:09:00+00', '', '88220279', 9, 0);
INSERT INTO public.tallies VALUES (60, 'sticky', 'accepted', '2026-11-30 14:09:00+00', '', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'indexed', 'accepted', '2026-11-30 14:09:00+00', '', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'indexed', 'refused', '2026-11-30 14:09:00+00', 'signature_missing', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'refused', '2026-11-30 14:09:00+00', 'signature_malformed', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'sigma', 'refused', '2026-11-30 14:09:00+00', 'signature_missing', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'sigma', 'verified', '2026-11-30 14:09:00+00', '0', '88220279', 5, 0);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'verified', '2026-11-30 14:09:00+00', '0', '88220279', 9, 0);
INSERT INTO public.tallies VALUES (60, 'sticky', 'verified', '2026-11-30 14:09:00+00', '0', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'indexed', 'verified', '2026-11-30 14:09:00+00', '27', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'sigma', 'unhandled', '2026-11-30 14:09:00+00', 'nothing.known', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'failed_attempt', '2026-11-30 14:09:00+00', '', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'sigma', 'ended', '2026-11-30 14:09:00+00', 'processed/applied', '88220279', 3, 0);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'ended', '2026-11-30 14:09:00+00', 'processed/applied', '88220279', 6, 0);
INSERT INTO public.tallies VALUES (60, 'sticky', 'ended', '2026-11-30 14:09:00+00', 'processed/applied', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'indexed', 'ended', '2026-11-30 14:09:00+00', 'processed/applied', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'ended', '2026-11-30 14:09:00+00', 'processed/tie', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'ended', '2026-11-30 14:09:00+00', 'processed/stale', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'ended', '2026-11-30 14:09:00+00', 'processed/unchanged', '88220279', 2, 0);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'ended', '2026-11-30 14:09:00+00', 'dead', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'sigma', 'ended', '2026-11-30 14:09:00+00', 'processed/unchanged', '88220279', 3, 0);
INSERT INTO public.tallies VALUES (60, 'sigma', 'lag', '2026-11-30 14:09:00+00', '', '88220279', 3, 0.436174);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'lag', '2026-11-30 14:09:00+00', '', '88220279', 8, 1.082605);
INSERT INTO public.tallies VALUES (60, 'sticky', 'lag', '2026-11-30 14:09:00+00', '', '88220279', 1, 0.275929);
INSERT INTO public.tallies VALUES (60, 'indexed', 'lag', '2026-11-30 14:09:00+00', '', '88220279', 1, 0.273534);
INSERT INTO public.tallies VALUES (60, 'sigma', 'freshness', '2026-11-30 14:09:00+00', '', '88220279', 3, 1765029.1544980002);
INSERT INTO public.tallies VALUES (60, 'iimmpact', 'freshness', '2026-11-30 14:09:00+00', '', '88220279', 8, 6264004.273691);
INSERT INTO public.tallies VALUES (60, 'sticky', 'freshness', '2026-11-30 14:09:00+00', '', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, 'indexed', 'freshness', '2026-11-30 14:09:00+00', '', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, '', 'running', '2026-11-30 14:09:00+00', '0.1.0 26df5d99082da82e', '88220279', 1, 0);
INSERT INTO public.tallies VALUES (60, '', 'watched', '2026-11-30 14:09:00+00', '', '88220279', 1, 0);
SELECT pg_catalog.setval('public.actions_id_seq', 15, true);
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
ALTER TABLE ONLY public.dead_changes
    ADD CONSTRAINT dead_changes_pkey PRIMARY KEY (follower, seq);
ALTER TABLE ONLY public.dedup_keys
    ADD CONSTRAINT dedup_keys_pkey PRIMARY KEY (source, dedup_key);
ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.duties
    ADD CONSTRAINT duties_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.findings
    ADD CONSTRAINT findings_pkey PRIMARY KEY (id, opened_at);
ALTER TABLE ONLY public.followers
    ADD CONSTRAINT followers_pkey PRIMARY KEY (name);
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
ALTER TABLE ONLY public.records
    ADD CONSTRAINT records_pkey PRIMARY KEY (source, external_id);
ALTER TABLE ONLY public.refused
    ADD CONSTRAINT refused_pkey PRIMARY KEY (id);
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
ALTER TABLE ONLY public.schedules
    ADD CONSTRAINT schedules_pkey PRIMARY KEY (source);
ALTER TABLE ONLY public.seen
    ADD CONSTRAINT seen_pkey PRIMARY KEY (run, "table", external_id);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_link_key UNIQUE (link);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.settlements
    ADD CONSTRAINT settlements_pkey PRIMARY KEY (ended_at, id);
ALTER TABLE ONLY public.tallies
    ADD CONSTRAINT tallies_pkey PRIMARY KEY (span, source, kind, at, detail, process);
ALTER TABLE ONLY public.variants
    ADD CONSTRAINT variants_pkey PRIMARY KEY (source, external_id);
CREATE UNIQUE INDEX ix_actions_key ON public.actions USING btree (key);
CREATE INDEX ix_actions_run ON public.actions USING btree (run, id);
CREATE INDEX ix_categories_parent ON public.categories USING btree (parent);
CREATE INDEX ix_categories_sku ON public.categories USING btree (sku);
CREATE INDEX ix_changes_delivery ON public.changes USING btree (delivery_id) WHERE (delivery_id IS NOT NULL);
CREATE INDEX ix_changes_row ON public.changes USING btree ("table", source, external_id, seq);
CREATE INDEX ix_changes_run ON public.changes USING btree (run, seq) WHERE (run IS NOT NULL);
CREATE INDEX ix_dead_changes_row ON public.dead_changes USING btree (follower, "table", source, external_id, seq);
CREATE INDEX ix_dead_changes_state ON public.dead_changes USING btree (follower, state, seq);
CREATE INDEX ix_deliveries_body ON public.deliveries USING btree (body_id) WHERE (body_id IS NOT NULL);
CREATE INDEX ix_deliveries_dead ON public.deliveries USING btree (id) WHERE ((state)::text = 'dead'::text);
CREATE INDEX ix_deliveries_due ON public.deliveries USING btree (suspect, due_at, id) WHERE ((state)::text = 'pending'::text);
CREATE INDEX ix_deliveries_entity ON public.deliveries USING btree (entity_id, id) WHERE (ended_at IS NOT NULL);
CREATE INDEX ix_deliveries_ignored ON public.deliveries USING btree (source, event_type, id) WHERE ((state)::text = 'ignored'::text);
CREATE INDEX ix_deliveries_processing ON public.deliveries USING btree (source, entity_kind, entity_id) WHERE ((state)::text = 'processing'::text);
CREATE INDEX ix_deliveries_source ON public.deliveries USING btree (source, id);
CREATE UNIQUE INDEX ix_findings_open ON public.findings USING btree (id) WHERE (closed_at IS NULL);
CREATE INDEX ix_findings_opened ON public.findings USING btree (opened_at);
CREATE INDEX ix_groups_parent ON public.groups USING btree (parent);
CREATE INDEX ix_groups_sku ON public.groups USING btree (sku);
CREATE INDEX ix_options_parent ON public.options USING btree (parent);
CREATE INDEX ix_options_sku ON public.options USING btree (sku);
CREATE INDEX ix_products_parent ON public.products USING btree (parent);
CREATE INDEX ix_products_sku ON public.products USING btree (sku);
CREATE INDEX ix_records_parent ON public.records USING btree (parent);
CREATE INDEX ix_records_sku ON public.records USING btree (sku);
CREATE INDEX ix_refused_source ON public.refused USING btree (source, id, size);
CREATE INDEX ix_rounds_run ON public.rounds USING btree (run, delivery_id) WHERE (run IS NOT NULL);
CREATE INDEX ix_run_deliveries_fed ON public.run_deliveries USING btree (delivery_id, run) WHERE ((state)::text = 'fed'::text);
CREATE INDEX ix_run_deliveries_retrying ON public.run_deliveries USING btree (delivery_id, run) WHERE ((state)::text = 'retrying'::text);
CREATE INDEX ix_runs_open ON public.runs USING btree (id) WHERE state IN ('planning', 'running');
CREATE INDEX ix_runs_reconciles ON public.runs USING btree (sources, id) WHERE (((kind)::text = 'reconcile'::text) AND (started_at IS NOT NULL));
CREATE INDEX ix_sessions_ends_at ON public.sessions USING btree (ends_at);
CREATE INDEX ix_tallies_at ON public.tallies USING btree (span, at);
CREATE INDEX ix_variants_parent ON public.variants USING btree (parent);
CREATE INDEX ix_variants_sku ON public.variants USING btree (sku);
