// xl help [VERB].
import { helpOf, helpOfAll } from './arguments.ts';
import { printed, type Verb } from './verb.ts';

export const help: Verb = async (_, [verb]) => printed(verb === undefined ? helpOfAll() : helpOf(verb));
