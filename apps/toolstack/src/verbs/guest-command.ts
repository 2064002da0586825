// guest-command DOMAIN JSON [EVENT [ID [TIMEOUT_MS]]]: hands a guest's kernel a command (guest-spec.ts) and, if an event is named,
// waits for it and prints its data as JSON. For the launcher; xl has no such verb.
import { guestCommandSchema } from '#wire/guest-messages';
import { findDomain, printed, refused, type Verb, wrongArguments } from './verb.ts';

const USAGE = 'guest-command <Domain> <Json> [Event [Id [TimeoutMs]]]';
const TIMEOUT_MS = 60_000;

export const guestCommand: Verb = async (xl, [domain, json, event, id, timeout]) => {
  if (domain === undefined) throw wrongArguments(USAGE);
  const { domid } = await findDomain(xl, domain);
  const command = guestCommandSchema.safeParse(parsed(json));
  if (!command.success) return refused(`not a command of a guest: ${command.error.issues[0]?.message}`);
  const awaited =
    event === undefined ? null : { name: event, id: id ? id : null, timeoutMs: timeout ? Number(timeout) : TIMEOUT_MS };
  const found = await xl.placement.command(domid, command.data, awaited);
  if (awaited && !found) return refused(`no event ${awaited.name} from domain ${domid} within ${awaited.timeoutMs} ms`);
  return printed(found ? `${JSON.stringify(found.data)}\n` : '');
};

function parsed(json: string | undefined): unknown {
  if (json === undefined) throw wrongArguments(USAGE);
  try {
    return JSON.parse(json);
  } catch {
    throw wrongArguments(USAGE);
  }
}
