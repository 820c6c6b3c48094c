import { z } from 'zod'
import { RpcError } from '../../domain/errors.ts'
import { ADMIN_ONLY, defineProcedure, type Procedure } from '../procedure.ts'
import { configReloadResult } from '../results.ts'

const DETAILS_MAX = 100

const reload = defineProcedure({
  name: 'config.reload',
  summary: 'Read the configuration file again and work by it. A file with problems changes nothing.',
  access: ADMIN_ONLY,
  params: z.object({}),
  result: configReloadResult,
  errors: ['invalid_configuration'],
  traits: { writes: true },
  example: { params: {}, result: { changed: ['routes.orders'], restart_needed: [] } },
  async handle(deps) {
    const outcome = await deps.reload()
    if (outcome.kind === 'refused') {
      throw new RpcError('invalid_configuration', { details: outcome.problems.slice(0, DETAILS_MAX) })
    }
    return { changed: [...outcome.changed], restart_needed: [...outcome.restartNeeded] }
  },
})

export const CONFIG_PROCEDURES: readonly Procedure[] = [reload]
