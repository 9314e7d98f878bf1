-- Names of the older PostgreSQL collector, over the tables of this one.
CREATE OR REPLACE VIEW netflow.netflow_flows AS
SELECT hash_record_extended(f, 0) AS id,
       f."time" AS "timestamp",
       md5(concat_ws(' ', f.src_ip, f.dst_ip, f.src_port, f.dst_port, f.protocol)) AS flow_id,
       f.flow_start,
       f."time" AS flow_end,
       f.src_ip, f.dst_ip, f.src_port, f.dst_port, f.protocol, f.packets, f.bytes,
       (extract(epoch FROM f."time" - f.flow_start) * 1000)::bigint AS flow_duration_ms,
       f.exporter_ip,
       f.input_if AS input_snmp,
       f.output_if AS output_snmp,
       f.tcp_flags,
       f.tos AS src_tos,
       NULL::smallint AS dst_tos,
       f.src_as, f.dst_as, f.next_hop, f.vlan_id,
       CASE WHEN f.app IS NOT NULL THEN f.app
            WHEN NOT f.protocol IN (6, 17, 33, 132) OR f.src_port IS NULL OR f.dst_port IS NULL THEN 'protocol-' || f.protocol
            WHEN least(f.src_port, f.dst_port) < 1024 THEN 'system-' || least(f.src_port, f.dst_port)
            ELSE 'user-' || least(f.src_port, f.dst_port)
       END AS application_name,
       coalesce(f.bidirectional, false) AS bidirectional,
       f.netflow_version,
       f.received_at,
       f.received_at AS created_at
FROM {flows} f;

CREATE OR REPLACE VIEW netflow.netflow_exporters AS
SELECT row_number() OVER (ORDER BY f.exporter_ip) AS id,
       f.exporter_ip,
       max(f.nas_id) AS exporter_name,
       min(f.received_at) AS first_seen,
       max(f.received_at) AS last_seen,
       count(*) AS total_flows,
       sum(f.bytes) AS total_bytes,
       max(f.netflow_version) AS version,
       max(f.sampling_rate) AS sampling_rate
FROM {flows} f
GROUP BY f.exporter_ip;

CREATE OR REPLACE VIEW netflow.netflow_aggregates AS
SELECT hashtextextended(concat_ws(' ', date_trunc('hour', f."time"), f.src_ip, f.dst_ip, f.protocol), 0) AS id,
       date_trunc('hour', f."time") AS period_start,
       date_trunc('hour', f."time") + interval '1 hour' AS period_end,
       f.src_ip, f.dst_ip, f.protocol,
       sum(f.bytes) AS total_bytes,
       sum(f.packets) AS total_packets,
       count(*) AS flow_count
FROM {flows} f
GROUP BY date_trunc('hour', f."time"), f.src_ip, f.dst_ip, f.protocol;
