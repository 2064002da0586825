// xl create FILE [key=value…]: the file's text is read, the domain built, its guest placed and started.
import { logText } from '#formats/xl-output';
import { parseGuestConfig } from '#model/toolstack/guest-config';
import type { GuestConfigError } from '#model/toolstack/guest-config-reader';
import { libxlAt, libxlError } from '#model/toolstack/libxl-log';
import type { XlReply } from '#wire/messages';
import { decodeCreate } from '#wire/xl-create';
import { replyOf } from './result.ts';
import { domainList, EXIT_WRONG_ARGUMENTS, refused, type Verb, XlFailure } from './verb.ts';

function explain({ line, message, remedy }: GuestConfigError, source: string): string {
  const place = message.startsWith(`${source}:`) ? '' : `${source}${line === undefined ? '' : `:${line}`}: `;
  return `${place}${message}${remedy === undefined ? '' : `\n    → ${remedy}`}`;
}

export const create: Verb = async (xl, args): Promise<XlReply> => {
  const request = read(args);
  const { source, text, kernel } = request;
  const parsed = parseGuestConfig(text, source, { rdmParser: xl.config.knobs.rdmParser });
  const stdout = `Parsing config from ${source}\n`;
  const warnings = parsed.warnings.map((warning) => `${warning}\n`).join('');
  if (!parsed.ok) {
    const stderr = parsed.errors.map((error) => `${explain(error, source)}\n`).join('');
    return { ...refused(warnings + stderr), stdout };
  }
  const { config } = parsed;
  if ((await domainList(xl)).some(({ name }) => name === config.name)) {
    // libxl has made a domain by then and names its number; here none is made.
    const taken = libxlError(libxlAt.nameTaken, `Domain with name "${config.name}" already exists.`);
    return { ...refused(`${warnings}${logText(taken)}`), stdout };
  }
  const reply = replyOf(await xl.domains.create(config, kernel), stdout);
  return { ...reply, stderr: warnings + reply.stderr };
};

function read(args: readonly string[]): ReturnType<typeof decodeCreate> {
  try {
    return decodeCreate(args);
  } catch (error) {
    throw new XlFailure((error as Error).message, EXIT_WRONG_ARGUMENTS); // decodeCreate throws Errors only
  }
}
