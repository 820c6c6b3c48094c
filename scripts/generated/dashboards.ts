import type { Dashboard, Panel } from './grafana.ts'

/*
 * What the dashboards show. After a change: `npm run generate`. Every name below is looked for in the
 * metrics of a running gateway by test/integration/monitoring.test.ts.
 */

const RATE = '$__rate_interval'

/** Lines for p50, p95 and p99 of a histogram. */
function quantiles(histogram: string, selector: string): Panel['queries'] {
  return [0.5, 0.95, 0.99].map((quantile) => [
    `histogram_quantile(${quantile}, sum by (le) (rate(${histogram}_bucket${selector}[${RATE}])))`,
    `p${quantile * 100}`,
  ])
}

const stat = (panel: Panel): Panel => ({ kind: 'stat', ...panel })

export const DASHBOARDS: readonly Dashboard[] = [
  {
    uid: 'dripgate-overview',
    title: 'Dripgate / Overview',
    description: 'Is the gateway well, how much does it do, and how long does it take?',
    variables: ['route'],
    rows: [
      {
        title: 'At a glance',
        panels: [
          stat({
            title: 'Requests',
            description: 'Requests per second, whatever became of them.',
            unit: 'reqps',
            queries: [[`sum(rate(dripgate_requests_total{I, R}[${RATE}]))`, '']],
          }),
          stat({
            title: 'Server errors',
            description: 'Share of the answers with a status of 500 or more, the upstreams’ included.',
            unit: 'percentunit',
            redFrom: 0.01,
            queries: [
              [
                `(sum(rate(dripgate_requests_total{I, R, code="5xx"}[${RATE}])) or vector(0)) / sum(rate(dripgate_requests_total{I, R}[${RATE}]))`,
                '',
              ],
            ],
          }),
          stat({
            title: 'Limited',
            description: 'Share of the requests that were refused because a key had used up its limit.',
            unit: 'percentunit',
            queries: [
              [
                `(sum(rate(dripgate_requests_total{I, R, decision="limited"}[${RATE}])) or vector(0)) / sum(rate(dripgate_requests_total{I, R}[${RATE}]))`,
                '',
              ],
            ],
          }),
          stat({
            title: 'p99',
            description: '99 of 100 requests were over after this time, the upstream’s share included.',
            unit: 's',
            queries: [
              [
                `histogram_quantile(0.99, sum by (le) (rate(dripgate_request_duration_seconds_bucket{I, R}[${RATE}])))`,
                '',
              ],
            ],
          }),
          stat({
            title: 'Own p99',
            description: 'The same without the time at the upstream: what the gateway itself costs.',
            unit: 's',
            redFrom: 0.025,
            queries: [
              [
                `histogram_quantile(0.99, sum by (le) (rate(dripgate_overhead_seconds_bucket{I}[${RATE}])))`,
                '',
              ],
            ],
          }),
          stat({
            title: 'Nodes with a store',
            description:
              'Gateways whose store answers. Below the number of gateways: see the dashboard Store.',
            unit: 'short',
            redBelow: 1,
            queries: [['sum(dripgate_store_up{I})', '']],
          }),
        ],
      },
      {
        title: 'Traffic',
        panels: [
          {
            title: 'Requests by decision',
            description:
              'allowed and open went to an upstream; rejected were malformed or had no route; store_error were decided without the store.',
            unit: 'reqps',
            isStacked: true,
            queries: [[`sum by (decision) (rate(dripgate_requests_total{I, R}[${RATE}]))`, '{{decision}}']],
          },
          {
            title: 'Answers by class of status',
            description: 'Both the upstreams’ answers and the gateway’s own.',
            unit: 'reqps',
            isStacked: true,
            queries: [[`sum by (code) (rate(dripgate_requests_total{I, R}[${RATE}]))`, '{{code}}']],
          },
          {
            title: 'Requests by route',
            description: 'none: no route matched.',
            unit: 'reqps',
            queries: [[`sum by (route) (rate(dripgate_requests_total{I, R}[${RATE}]))`, '{{route}}']],
          },
          {
            title: 'Bodies',
            description: 'Bytes of request bodies received from clients and of answer bodies sent to them.',
            unit: 'Bps',
            queries: [
              [`sum(rate(dripgate_received_bytes_total{I, R}[${RATE}]))`, 'received'],
              [`sum(rate(dripgate_sent_bytes_total{I, R}[${RATE}]))`, 'sent'],
            ],
          },
          {
            title: 'Open connections',
            description:
              'Connections of clients to the gateway port. A climb without traffic: idle or slow clients.',
            unit: 'short',
            queries: [['sum by (instance) (dripgate_connections_open{I})', '{{instance}}']],
          },
          {
            title: 'Answers broken off',
            description:
              'Clients that left in the middle of an answer, and upstreams that did not end theirs.',
            unit: 'reqps',
            queries: [[`sum by (route) (rate(dripgate_requests_aborted_total{I, R}[${RATE}]))`, '{{route}}']],
          },
        ],
      },
      {
        title: 'Latency',
        panels: [
          {
            title: 'Whole requests',
            description:
              'From a request’s head to the last byte of its answer. The dots are traces, where clients send them.',
            unit: 's',
            queries: quantiles('dripgate_request_duration_seconds', '{I, R}'),
          },
          {
            title: 'Own share',
            description: 'Without the time at the upstream. It grows when threads or the store are busy.',
            unit: 's',
            queries: quantiles('dripgate_overhead_seconds', '{I}'),
          },
          {
            title: 'Durations',
            description: 'Requests by duration: two bands mean two kinds of requests.',
            unit: 's',
            kind: 'heatmap',
            width: 24,
            queries: [
              [`sum by (le) (increase(dripgate_request_duration_seconds_bucket{I, R}[${RATE}]))`, '{{le}}'],
            ],
          },
        ],
      },
    ],
  },
  {
    uid: 'dripgate-limits',
    title: 'Dripgate / Rate limiting',
    description: 'Who is refused, and why.',
    variables: ['route'],
    rows: [
      {
        title: 'Refused',
        panels: [
          {
            title: 'Share of requests limited',
            description: 'By route. A sudden climb: a client gone wild, or a limit that is too low.',
            unit: 'percentunit',
            queries: [
              [
                `sum by (route) (rate(dripgate_requests_total{I, R, decision="limited"}[${RATE}])) / sum by (route) (rate(dripgate_requests_total{I, R}[${RATE}]))`,
                '{{route}}',
              ],
            ],
          },
          {
            title: 'Requests limited',
            description: 'Answers with 429, by route.',
            unit: 'reqps',
            queries: [
              [
                `sum by (route) (rate(dripgate_requests_total{I, R, decision="limited"}[${RATE}]))`,
                '{{route}}',
              ],
            ],
          },
          {
            title: 'Tokens refused',
            description:
              'Answers with 401. Many invalid ones: somebody guesses, or keys were deleted that are still in use.',
            unit: 'reqps',
            isStacked: true,
            queries: [
              [
                `sum by (decision) (rate(dripgate_requests_total{I, R, decision=~"missing_token|invalid_token|expired_token"}[${RATE}]))`,
                '{{decision}}',
              ],
            ],
          },
          {
            title: 'Rejected before a decision',
            description: 'Malformed, ambiguous, not routed, wrong method, too slow.',
            unit: 'reqps',
            queries: [
              [
                `sum by (route, code) (rate(dripgate_requests_total{I, R, decision="rejected"}[${RATE}]))`,
                '{{route}} {{code}}',
              ],
            ],
          },
        ],
      },
      {
        title: 'Decided without the store',
        panels: [
          {
            title: 'What was done',
            description:
              'deny answered 503; allow let requests through unlimited; local limited by this node’s own buckets. All zero is well.',
            unit: 'reqps',
            isStacked: true,
            queries: [[`sum by (mode) (rate(dripgate_store_error_decisions_total{I}[${RATE}]))`, '{{mode}}']],
          },
          {
            title: 'Spending forgotten by Redis',
            description:
              'Tokens that were spent and that Redis no longer knew of after a failover or restart: so many requests too many may pass.',
            unit: 'short',
            queries: [
              [
                `sum by (instance) (increase(dripgate_store_forgotten_tokens_total{I}[${RATE}]))`,
                '{{instance}}',
              ],
            ],
          },
        ],
      },
    ],
  },
  {
    uid: 'dripgate-upstreams',
    title: 'Dripgate / Upstreams',
    description: 'How the services behind the gateway do.',
    variables: ['route', 'upstream'],
    rows: [
      {
        title: 'Requests',
        panels: [
          {
            title: 'Forwarded requests',
            description: 'By upstream, retries not counted.',
            unit: 'reqps',
            queries: [
              [
                `sum by (upstream) (rate(dripgate_upstream_duration_seconds_count{I, U}[${RATE}]))`,
                '{{upstream}}',
              ],
            ],
          },
          {
            title: 'Server errors by route',
            description: 'Share of answers with 5xx: the upstream’s own, and 502, 503, 504 made for it.',
            unit: 'percentunit',
            queries: [
              [
                `sum by (route) (rate(dripgate_requests_total{I, R, code="5xx"}[${RATE}])) / sum by (route) (rate(dripgate_requests_total{I, R}[${RATE}]))`,
                '{{route}}',
              ],
            ],
          },
        ],
      },
      {
        title: 'Targets',
        panels: [
          {
            title: 'Targets that get requests',
            description:
              '1: at least one address of the target does. Targets are numbered from 0, as in the configuration.',
            unit: 'short',
            queries: [
              ['min by (upstream, target) (dripgate_upstream_target_up{I, U})', '{{upstream}} {{target}}'],
            ],
          },
          {
            title: 'Addresses by state',
            description: 'up; ejected because requests failed; down as the active checks say.',
            unit: 'short',
            isStacked: true,
            queries: [['sum by (state) (dripgate_upstream_target_addresses{I, U})', '{{state}}']],
          },
          {
            title: 'Ejections',
            description:
              'How often addresses were left out because requests failed. Each time in a row for longer.',
            unit: 'ops',
            queries: [
              [
                `sum by (upstream, target) (rate(dripgate_upstream_target_ejections_total{I, U}[${RATE}]))`,
                '{{upstream}} {{target}}',
              ],
            ],
          },
          {
            title: 'Retries',
            description:
              'Requests sent again after a failure, and those that were not because the budget for it was used up.',
            unit: 'reqps',
            queries: [
              [
                `sum by (upstream) (rate(dripgate_upstream_retries_total{I, U}[${RATE}]))`,
                'sent again {{upstream}}',
              ],
              [
                `sum by (upstream) (rate(dripgate_upstream_retries_refused_total{I, U}[${RATE}]))`,
                'over budget {{upstream}}',
              ],
            ],
          },
          {
            title: 'Open circuits',
            description: 'Gateways that answer 503 for an upstream at once, because it failed as a whole.',
            unit: 'short',
            queries: [['sum by (upstream) (dripgate_upstream_circuit_open{I, U})', '{{upstream}}']],
          },
          {
            title: 'Circuits opened',
            description: 'How often that happened. A saw: the upstream comes back and breaks down again.',
            unit: 'short',
            queries: [
              [
                `sum by (upstream) (increase(dripgate_upstream_circuit_openings_total{I, U}[${RATE}]))`,
                '{{upstream}}',
              ],
            ],
          },
        ],
      },
      {
        title: 'Latency',
        panels: [
          {
            title: 'All upstreams',
            description: 'From the start of forwarding to the end of the answer.',
            unit: 's',
            queries: quantiles('dripgate_upstream_duration_seconds', '{I, U}'),
          },
          {
            title: 'p99 by upstream',
            description: 'The slowest of 100 requests.',
            unit: 's',
            queries: [
              [
                `histogram_quantile(0.99, sum by (le, upstream) (rate(dripgate_upstream_duration_seconds_bucket{I, U}[${RATE}])))`,
                '{{upstream}}',
              ],
            ],
          },
          {
            title: 'Mean by upstream',
            description: 'Also where there are too few requests for a p99.',
            unit: 's',
            queries: [
              [
                `sum by (upstream) (rate(dripgate_upstream_duration_seconds_sum{I, U}[${RATE}])) / sum by (upstream) (rate(dripgate_upstream_duration_seconds_count{I, U}[${RATE}]))`,
                '{{upstream}}',
              ],
            ],
          },
          {
            title: 'Durations',
            description: 'Requests by duration at the upstream.',
            unit: 's',
            kind: 'heatmap',
            queries: [
              [`sum by (le) (increase(dripgate_upstream_duration_seconds_bucket{I, U}[${RATE}]))`, '{{le}}'],
            ],
          },
        ],
      },
    ],
  },
  {
    uid: 'dripgate-cache',
    title: 'Dripgate / Response cache',
    description: 'What the response cache saves, how full it is, and who purges it.',
    variables: [],
    rows: [
      {
        title: 'Response cache',
        panels: [
          {
            title: 'Requests by outcome',
            description:
              'On routes that cache. hit, stale and collapsed needed no request to the upstream of their own; bypass could not be cached.',
            unit: 'reqps',
            isStacked: true,
            queries: [[`sum by (outcome) (rate(dripgate_cache_requests_total{I}[${RATE}]))`, '{{outcome}}']],
          },
          {
            title: 'Share answered from the cache',
            description: 'Of the requests on routes that cache.',
            unit: 'percentunit',
            queries: [
              [
                `sum(rate(dripgate_cache_requests_total{I, outcome=~"hit|stale|collapsed"}[${RATE}])) / sum(rate(dripgate_cache_requests_total{I}[${RATE}]))`,
                'from the cache',
              ],
            ],
          },
          {
            title: 'Memory',
            description:
              'What stored answers take, about. At its limit (gateway.cache.memory) old ones make room.',
            unit: 'bytes',
            queries: [['dripgate_cache_stored_bytes{I}', '{{instance}}']],
          },
          {
            title: 'Entries',
            description: 'Answers and notes that are stored now.',
            unit: 'short',
            queries: [['dripgate_cache_entries{I}', '{{instance}}']],
          },
          {
            title: 'Dropped answers',
            description: 'Evicted for want of room, and made out of date by unsafe requests.',
            unit: 'ops',
            queries: [
              [`sum(rate(dripgate_cache_evictions_total{I}[${RATE}]))`, 'evicted'],
              [`sum(rate(dripgate_cache_invalidations_total{I}[${RATE}]))`, 'invalidated'],
            ],
          },
          {
            title: 'Purges',
            description:
              'done: every node has applied it. pending: not all in time. failed: it could not be told.',
            unit: 'ops',
            isStacked: true,
            queries: [[`sum by (outcome) (rate(dripgate_cache_purges_total{I}[${RATE}]))`, '{{outcome}}']],
          },
        ],
      },
      {
        title: 'Script API',
        panels: [
          {
            title: 'Calls',
            description: 'Calls of /script/* by what came of them.',
            unit: 'reqps',
            queries: [
              [
                `sum by (call, outcome) (rate(dripgate_script_requests_total{I}[${RATE}]))`,
                '{{call}} {{outcome}}',
              ],
            ],
          },
          {
            title: 'Keys',
            description: 'Keys that these calls named: done, not there, or failed.',
            unit: 'ops',
            isStacked: true,
            queries: [[`sum by (result) (rate(dripgate_script_keys_total{I}[${RATE}]))`, '{{result}}']],
          },
        ],
      },
    ],
  },
  {
    uid: 'dripgate-store',
    title: 'Dripgate / Store',
    description: 'Where keys and buckets are kept: the embedded store of one node, or Redis for many.',
    variables: [],
    rows: [
      {
        title: 'Both stores',
        panels: [
          {
            title: 'Store up',
            description: '1 where the store answered when it was last asked.',
            unit: 'short',
            queries: [['dripgate_store_up{I}', '{{instance}}']],
          },
          {
            title: 'Requests decided without the store',
            description: 'By what their routes say then (on_store_error). All zero is well.',
            unit: 'reqps',
            isStacked: true,
            queries: [[`sum by (mode) (rate(dripgate_store_error_decisions_total{I}[${RATE}]))`, '{{mode}}']],
          },
        ],
      },
      {
        title: 'Embedded store',
        panels: [
          {
            title: 'Duration of a flush',
            description:
              'How long the last write of changed buckets took; one starts every 250 ms. After a kill the spending since the last one is forgotten. Above 1 s: the disk is slow.',
            unit: 's',
            queries: [['dripgate_store_flush_duration_seconds{I}', '{{instance}}']],
          },
        ],
      },
      {
        title: 'Redis store',
        panels: [
          {
            title: 'Checks by where they were decided',
            description: 'asked: by Redis. blocked and leased: from memory, without a call.',
            unit: 'ops',
            isStacked: true,
            queries: [[`sum by (where) (rate(dripgate_store_checks_total{I}[${RATE}]))`, '{{where}}']],
          },
          {
            title: 'Calls',
            description: 'Script calls to Redis that carry checks.',
            unit: 'ops',
            queries: [[`sum by (instance) (rate(dripgate_store_calls_total{I}[${RATE}]))`, '{{instance}}']],
          },
          {
            title: 'Checks per call',
            description: 'Checks of one turn of the event loop share a call. It grows with the load.',
            unit: 'short',
            queries: [
              [
                `sum by (instance) (rate(dripgate_store_checks_total{I, where="asked"}[${RATE}])) / sum by (instance) (rate(dripgate_store_calls_total{I}[${RATE}]))`,
                '{{instance}}',
              ],
            ],
          },
          {
            title: 'Failures',
            description:
              'Checks and look-ups that Redis did not answer, or not in time (store.redis.timeout).',
            unit: 'ops',
            queries: [
              [`sum by (instance) (rate(dripgate_store_failures_total{I}[${RATE}]))`, '{{instance}}'],
            ],
          },
          {
            title: 'Threads without Redis',
            description:
              'down: take Redis for dead. deaf: cannot hear of changes by other nodes. All zero is well.',
            unit: 'short',
            queries: [
              ['sum by (instance) (dripgate_store_down_threads{I})', 'down {{instance}}'],
              ['sum by (instance) (dripgate_store_deaf_threads{I})', 'deaf {{instance}}'],
            ],
          },
          {
            title: 'Spending forgotten',
            description: 'Tokens spent that Redis no longer knew of after a failover or restart.',
            unit: 'short',
            queries: [
              [
                `sum by (instance) (increase(dripgate_store_forgotten_tokens_total{I}[${RATE}]))`,
                '{{instance}}',
              ],
            ],
          },
        ],
      },
    ],
  },
  {
    uid: 'dripgate-process',
    title: 'Dripgate / Process',
    description: 'Memory, processor, and what goes on inside of each process.',
    variables: [],
    rows: [
      {
        title: 'State',
        panels: [
          stat({
            title: 'Nodes',
            description: 'Processes by version. More than one for long: a rollout that did not end.',
            unit: 'short',
            width: 8,
            queries: [['count by (version) (dripgate_build_info{I})', '{{version}}']],
          }),
          stat({
            title: 'Last reload',
            description:
              '1: good. 0: the file was refused and the old configuration goes on; the log says why.',
            unit: 'short',
            width: 8,
            redBelow: 1,
            queries: [['min(dripgate_config_last_reload_successful{I})', '']],
          }),
          stat({
            title: 'Threads replaced',
            description: 'Data-plane threads that died, over the shown time. The log has the reason.',
            unit: 'short',
            width: 8,
            redFrom: 1,
            queries: [['sum(increase(dripgate_thread_restarts_total{I}[$__range]))', '']],
          }),
        ],
      },
      {
        title: 'Certificates',
        panels: [
          {
            title: 'Time until certificates expire',
            description: 'Of the gateway port. A renewed file is taken without a restart.',
            unit: 's',
            queries: [
              [
                'min by (certificate) (dripgate_tls_certificate_expiry_timestamp_seconds{I}) - time()',
                'certificate {{certificate}}',
              ],
            ],
          },
          {
            title: 'Certificate files in force',
            description:
              '1: what the files hold. 0: they hold something unfit, and the old ones go on; the log says why.',
            unit: 'short',
            queries: [['dripgate_tls_certificates_last_reload_successful{I}', '{{instance}}']],
          },
        ],
      },
      {
        title: 'Resources',
        panels: [
          {
            title: 'Processor',
            description: 'Cores in use, by process. At the number of its threads it can do no more.',
            unit: 'short',
            queries: [[`sum by (instance) (rate(process_cpu_seconds_total{I}[${RATE}]))`, '{{instance}}']],
          },
          {
            title: 'Memory',
            description: 'Resident memory of the process, shared tables included.',
            unit: 'bytes',
            queries: [['process_resident_memory_bytes{I}', '{{instance}}']],
          },
          {
            title: 'File descriptors in use',
            description: 'Each connection takes one. At 100 % new connections are refused: raise the limit.',
            unit: 'percentunit',
            queries: [['process_open_fds{I} / process_max_fds{I}', '{{instance}}']],
          },
          {
            title: 'Uptime',
            description: 'A saw: the process dies again and again.',
            unit: 's',
            queries: [['time() - process_start_time_seconds{I}', '{{instance}}']],
          },
        ],
      },
      {
        title: 'Control thread',
        panels: [
          {
            title: 'Event-loop delay, p99',
            description:
              'Of the control thread only. High: management calls and look-ups of unknown keys wait.',
            unit: 's',
            queries: [['nodejs_eventloop_lag_p99_seconds{I}', '{{instance}}']],
          },
          {
            title: 'Heap',
            description: 'Of the control thread only.',
            unit: 'bytes',
            queries: [['nodejs_heap_size_used_bytes{I}', '{{instance}}']],
          },
          {
            title: 'Management calls and scrapes',
            description: 'Requests to the admin listener by class of status.',
            unit: 'reqps',
            isStacked: true,
            queries: [[`sum by (code) (rate(dripgate_admin_requests_total{I}[${RATE}]))`, '{{code}}']],
          },
          {
            title: 'Lines lost by the access log',
            description: 'Whoever reads the log, or the disk, is too slow or gone.',
            unit: 'cps',
            queries: [
              [
                `sum by (instance) (rate(dripgate_access_log_lines_dropped_total{I}[${RATE}]))`,
                '{{instance}}',
              ],
            ],
          },
        ],
      },
    ],
  },
]
