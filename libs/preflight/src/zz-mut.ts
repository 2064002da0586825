import { readdirSync, readFileSync } from 'node:fs';
import { runMutants } from '../../formats/test-support/mutant-run.ts';
import { preflightTargets } from '../test-support/preflight-targets.ts';
const I='/work/shared/inputs';
const inp=(d:string,re:RegExp)=>readdirSync(`${I}/${d}`).filter(f=>re.test(f)).map(f=>new Uint8Array(readFileSync(`${I}/${d}/${f}`)));
const more: any = {'preflight dmar': inp('dmar',/^(?!ivrs).*dat$/),'preflight ivrs':inp('dmar',/^ivrs.*dat$/),'preflight log':inp('logs',/txt$/),'preflight lspci':inp('lspci',/txt$/),'preflight xl.cfg':inp('cfg',/cfg$/)};
const t=performance.now();
const r=runMutants({targets: preflightTargets.map(x=>({...x,seeds:[...x.seeds,...more[x.name]]})), count:+(process.argv[2]??1000), firstSeed:+(process.argv[3]??1)});
console.log(r.tallies, r.slowestMs, performance.now()-t); for (const f of r.failures) console.log(f.slice(0,700));
