// squeeze-swap SHRINK GROW MIB: squeezed moves memory from one guest to another, freeing first.
import { replyOf } from './result.ts';
import { findDomain, type Verb, wrongArguments } from './verb.ts';

const USAGE = 'squeeze-swap <ShrinkDomain> <GrowDomain> <MiB>';

export const squeezeSwap: Verb = async (xl, [from, to, size]) => {
  if (from === undefined || to === undefined) throw wrongArguments(USAGE);
  const shrink = await findDomain(xl, from);
  const grow = await findDomain(xl, to);
  const mib = Number(size);
  if (!Number.isSafeInteger(mib) || mib <= 0) throw wrongArguments(USAGE);
  return replyOf(await xl.squeezed.run('swapMemory', [shrink.domid, grow.domid, mib * 1024, xl.squeezed.settings()]));
};
