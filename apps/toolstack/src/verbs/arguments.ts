// How xl reads a verb's command line: single-letter options anywhere, then words, with xl's own sentences for what is wrong. And
// what `xl help` says of each verb, which comes with them. The texts of the help are ours; its form is xl's.
import { EXIT_OK, EXIT_WRONG_ARGUMENTS, XlFailure } from './verb.ts';

interface Usage {
  readonly args: string;
  readonly about: string;
  readonly options?: readonly string[];
  /** Whether xl counts it among those that change something (its -f). */
  readonly modifies?: boolean;
}

const MEM = "<Domain> <MemMB['b'[bytes]|'k'[KB]|'m'[MB]|'g'[GB]|'t'[TB]]>";
const STOP_OPTIONS = ['-a, --all    all guests', '-w, --wait   accepted; this xl always waits'];

const usages: Readonly<Record<string, Usage>> = {
  create: {
    args: '<ConfigFile> [vars]',
    about: 'Builds a domain from a configuration file and starts it',
    modifies: true,
  },
  destroy: { args: '<Domain>', about: 'Ends a domain at once', modifies: true },
  shutdown: { args: '[options] <-a|Domain>', about: 'Asks a domain to stop', options: STOP_OPTIONS, modifies: true },
  reboot: { args: '[options] <-a|Domain>', about: 'Asks a domain to restart', options: STOP_OPTIONS, modifies: true },
  pause: { args: '<Domain>', about: 'Stops the vCPUs of a domain', modifies: true },
  unpause: { args: '<Domain>', about: 'Lets the vCPUs of a domain go on', modifies: true },
  list: {
    args: '[options] [Domain]',
    about: 'Shows one or all domains',
    options: ['-l, --long   the whole configuration, as JSON', '--json       raw figures'],
  },
  domid: { args: '<DomainName>', about: 'The number of a domain' },
  domname: { args: '<DomainId>', about: 'The name of a domain' },
  uptime: { args: '[-s] [Domain]', about: 'How long domains have run' },
  info: {
    args: '[options] [Key]',
    about: 'Shows the host, or one line of it',
    options: ['-n, --numa   the memory of each node too', '--json       raw figures'],
  },
  claims: { args: '', about: 'Shows what memory domains have claimed' },
  dmesg: { args: '', about: "Shows the hypervisor's console" },
  'mem-max': { args: MEM, about: 'Sets the most memory that a domain may have', modifies: true },
  'mem-set': { args: MEM, about: 'Sets how much memory a domain is to have', modifies: true },
  'pci-attach': { args: '<Domain> <PCI_SPEC_STRING>', about: 'Gives a device to a domain', modifies: true },
  'pci-detach': { args: '<Domain> <PCI_SPEC_STRING>', about: 'Takes a device from a domain', modifies: true },
  'pci-list': { args: '<Domain>', about: 'Shows the devices of a domain' },
  'pci-assignable-add': { args: '<BDF>', about: 'Takes a device from dom0, for guests to have', modifies: true },
  'pci-assignable-remove': { args: '<BDF>', about: 'Gives a device back to dom0', modifies: true },
  'pci-assignable-list': { args: '', about: 'Shows the devices that guests can have' },
};

export function helpOf(verb: string): string {
  const usage = usages[verb];
  if (!usage) return `command "${verb}" not implemented\n`;
  const { args, about, options, modifies } = usage;
  const text = `Usage: xl [-vtT${modifies ? 'f' : ''}] ${verb} ${args}\n\n${about}.\n\n`;
  return options ? `${text}Options:\n\n${options.join('\n')}\n\n` : text;
}

export function helpOfAll(): string {
  const rows = Object.entries(usages).map(([verb, { about }]) => ` ${verb.padEnd(19)} ${about}`);
  return `Usage xl [-vfNtT] <subcommand> [args]\n\nxl full list of subcommands:\n\n${rows.join('\n')}\n`;
}

/** Options a verb takes: a letter each, and its long form. */
export type Options<Letter extends string> = Readonly<Record<Letter, string>>;

export interface Arguments<Letter extends string> {
  readonly words: readonly string[];
  readonly has: (letter: Letter) => boolean;
}

/** Throws what xl says: an option it does not know (status 2), too few words (status 2, with the help), -h (status 0). */
export function readArguments<Letter extends string = never>(
  verb: string,
  args: readonly string[],
  required: number,
  options: Options<Letter> = {} as Options<Letter>, // without letters there are none
): Arguments<Letter> {
  const given = new Set<string>();
  const words: string[] = [];
  const long = new Map(Object.entries<string>(options).map(([letter, name]) => [`--${name}`, letter]));
  for (const arg of args) {
    if (arg === '-h' || arg === '--help') throw new XlFailure('', EXIT_OK, helpOf(verb));
    const letter = long.get(arg);
    if (letter !== undefined) given.add(letter);
    else if (/^-[^-]/.test(arg)) for (const one of arg.slice(1)) given.add(known(one, options));
    else if (arg.startsWith('--')) throw unsupported('-');
    else words.push(arg);
  }
  if (words.length < required) {
    const text = `'xl ${verb}' requires at least ${required} argument${required > 1 ? 's' : ''}.\n\n`;
    throw new XlFailure(text, EXIT_WRONG_ARGUMENTS, helpOf(verb));
  }
  return { words, has: (letter) => given.has(letter) };
}

const unsupported = (letter: string): XlFailure =>
  new XlFailure(`option \`${letter}' not supported.`, EXIT_WRONG_ARGUMENTS);

function known(letter: string, options: Readonly<Record<string, string>>): string {
  if (Object.hasOwn(options, letter)) return letter;
  throw unsupported(letter);
}
