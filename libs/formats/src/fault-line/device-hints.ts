// Which device of a machine a faulting one probably is, by its address and, where a listing is given, by its name. Intel keeps some
// functions of bus 0 for the same thing in every generation. Owns these conventions only.
import type { Evidence } from './cause.ts';

const nameOf = ({ event, context }: Evidence): string =>
  event.device === null ? '' : (context.names.get(event.device) ?? '');

/** The listing's word where there is one, else the address by convention. */
const is = (evidence: Evidence, address: RegExp, name: RegExp): boolean => {
  const listed = nameOf(evidence);
  return listed === '' ? address.test(evidence.event.device ?? '') : name.test(listed);
};

/** Integrated graphics, 00:02.0. */
export const isIntegratedGraphics = (evidence: Evidence): boolean =>
  /^0000:00:02\.0$/.test(evidence.event.device ?? '') && is(evidence, /./, /VGA|Display|Graphics/);

/** Management Engine: 00:16.x, of which .7 is its firmware TPM. */
export const isManagementEngine = (evidence: Evidence): boolean =>
  is(evidence, /^0000:00:16\.\d$/, /HECI|MEI|Management Engine/);

/** Camera unit with translation tables of its own: 00:05.0. */
export const isImageUnit = (evidence: Evidence): boolean =>
  is(evidence, /^0000:00:05\.0$/, /Imag(?:e|ing)|IPU|Camera/i);

/** Not the first function of its slot. */
export const isLaterFunction = ({ event }: Evidence): boolean => /\.[1-7]$/.test(event.device ?? '');
