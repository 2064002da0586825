// Turns calls into what travels and back, by the table. What a guest sent is hostile: decoding never throws; a call that is
// not one is answered (EINVAL, EFAULT, ENOSYS for an unknown operation) without reaching the hypervisor.

import type { Call } from '#model/hypercall/calls';
import { errno } from '#model/hypercall/errno';
import { callColumns } from './call-table.ts';
import { badValue, isWrong } from './checks.ts';

/** The answer to a call that could not be read. */
export interface CallFault {
  readonly rc: number;
}

export type WireCall = readonly unknown[];

const notReadable: CallFault = { rc: -errno.EFAULT };
const notPossible: CallFault = { rc: -errno.EINVAL };
const notKnown: CallFault = { rc: -errno.ENOSYS };

export const isCallFault = (decoded: Call | CallFault): decoded is CallFault => !('op' in decoded);

export function encodeCall(call: Call): WireCall {
  const columns = callColumns.get(call.op);
  if (!columns) throw new TypeError(`no operation ${call.op} in the call table`);
  // Read by the names that the table shares with this call's type.
  const values = call as unknown as Record<string, unknown>;
  const wire: unknown[] = [call.op];
  for (let i = 0; i < columns.names.length; i++) {
    // Both lists have the same length.
    wire.push(columns.checks[i]?.encode(values[columns.names[i] as string]));
  }
  return wire;
}

export function decodeCall(wire: unknown): Call | CallFault {
  if (!Array.isArray(wire)) return notReadable;
  const columns = callColumns.get(wire[0]);
  if (!columns) return notKnown;
  const { names, checks } = columns;
  if (wire.length !== names.length + 1) return notPossible;
  const call: Record<string, unknown> = { op: columns.op };
  for (let i = 0; i < names.length; i++) {
    const value = checks[i]?.decode(wire[i + 1]);
    if (isWrong(value)) return value === badValue ? notPossible : notReadable;
    call[names[i] as string] = value;
  }
  // Every field of this operation was set, each by the check of its type: the table is held against `Call` by the compiler.
  return call as unknown as Call;
}
