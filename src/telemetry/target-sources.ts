import type { TargetFigures, UpstreamFigures } from '../ports/target-figures.ts'
import type { Sample, Source } from './sources.ts'

/** Targets are labelled with their position in the configuration, from 0, never with an address. */
export function listTargetSources(upstreams: () => readonly UpstreamFigures[]): Source[] {
  const perUpstream = (value: (upstream: UpstreamFigures) => number) => (): Sample[] =>
    upstreams().map((upstream) => ({ labels: { upstream: upstream.name }, value: value(upstream) }))
  const perTarget = (value: (target: TargetFigures) => number) => (): Sample[] =>
    upstreams().flatMap(({ name, targets }) =>
      targets.map((target, position) => ({
        labels: { upstream: name, target: String(position) },
        value: value(target),
      })),
    )
  return [
    {
      name: 'dripgate_upstream_target_up',
      help: 'Whether a target, by its position from 0, gets requests (1): one of its addresses does.',
      type: 'gauge',
      collect: perTarget(({ up }) => (up > 0 ? 1 : 0)),
    },
    {
      name: 'dripgate_upstream_target_addresses',
      help: 'Addresses of a target: up, ejected because requests failed, or down as the checks say.',
      type: 'gauge',
      collect: () =>
        (['up', 'ejected', 'down'] as const).flatMap((state) =>
          perTarget((target) => target[state])().map(({ labels, value }) => ({
            labels: { ...labels, state },
            value,
          })),
        ),
    },
    {
      name: 'dripgate_upstream_target_ejections_total',
      help: 'How often the present addresses of a target were ejected because requests failed.',
      type: 'counter',
      collect: perTarget(({ ejections }) => ejections),
    },
    {
      name: 'dripgate_upstream_circuit_open',
      help: 'Whether the circuit of an upstream is open (1), so that its requests get 503.',
      type: 'gauge',
      collect: perUpstream(({ isCircuitOpen }) => (isCircuitOpen ? 1 : 0)),
    },
    {
      name: 'dripgate_upstream_circuit_openings_total',
      help: 'How often the circuit of an upstream has opened.',
      type: 'counter',
      collect: perUpstream(({ circuitOpenings }) => circuitOpenings),
    },
    {
      name: 'dripgate_upstream_retries_total',
      help: 'Requests that were sent again after they had been sent.',
      type: 'counter',
      collect: perUpstream(({ retries }) => retries),
    },
    {
      name: 'dripgate_upstream_retries_refused_total',
      help: 'Requests that were not sent again because the budget for it was used up.',
      type: 'counter',
      collect: perUpstream(({ retriesRefused }) => retriesRefused),
    },
  ]
}
