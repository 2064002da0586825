// Every operation of the toolstack that runs in a thread of its own, by name: the model's function that does it. Nothing is
// decided here.

import { destroyDomain } from '#model/toolstack/destroy-domain';
import { overlayReserved } from '#model/toolstack/device-model-calls';
import { createDomain } from '#model/toolstack/domain-builder';
import { pciAttach, pciDetach, rebootDomain } from '#model/toolstack/domain-ops';
import { memMax, memoryNodes, memSet, setMemoryTarget } from '#model/toolstack/memory-ops';
import { assignableDevices, makeAssignable, unmakeAssignable } from '#model/toolstack/pci-assignment';
import type { Operation, ToolstackPorts } from '#model/toolstack/ports';
import { autoBalance, balance, swapMemory } from '#model/toolstack/squeezed-loop';
import { login } from '#model/toolstack/squeezed-reservations';

const operations = {
  createDomain,
  destroyDomain,
  rebootDomain,
  memSet,
  memMax,
  memoryNodes,
  setMemoryTarget,
  pciAttach,
  pciDetach,
  makeAssignable,
  unmakeAssignable,
  assignableDevices,
  overlayReserved,
  login,
  balance,
  autoBalance,
  swapMemory,
} as const;

type Operations = typeof operations;
export type OperationName = keyof Operations;
export type OperationArgs<N extends OperationName> =
  Parameters<Operations[N]> extends [ToolstackPorts, ...infer Args] ? Args : never;
export type OperationResult<N extends OperationName> =
  ReturnType<Operations[N]> extends Operation<infer R> ? R : ReturnType<Operations[N]>;

/** `drive` runs a generator to its end; an operation that never pauses is a plain function. */
export function runOperation(
  name: string,
  ports: ToolstackPorts,
  args: readonly unknown[],
  drive: <R>(operation: Operation<R>) => R,
): unknown {
  if (!Object.hasOwn(operations, name)) throw new TypeError(`no operation ${name}`);
  // Name and arguments come together from OperationsService.run, which typed them against this table.
  const operation = operations[name as OperationName] as (ports: ToolstackPorts, ...args: unknown[]) => unknown;
  const result = operation(ports, ...args);
  return isGenerator(result) ? drive(result) : result;
}

const isGenerator = (value: unknown): value is Operation<unknown> =>
  typeof value === 'object' && value !== null && 'next' in value && typeof value.next === 'function';
