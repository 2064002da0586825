// squeeze-balance [FREE_MIB]: squeezed gives every guest the same fraction of its range and leaves so much free.
import { replyOf } from './result.ts';
import { type Verb, wrongArguments } from './verb.ts';

export const squeezeBalance: Verb = async (xl, [free]) => {
  const keepKib = free === undefined ? xl.config.knobs.keepFreeKib : Number(free) * 1024;
  if (!Number.isSafeInteger(keepKib) || keepKib < 0) throw wrongArguments('squeeze-balance [FreeMiB]');
  return replyOf(await xl.squeezed.run('balance', [{ ...xl.squeezed.settings(), keepFreeKb: keepKib }]));
};
