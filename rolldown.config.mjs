// Second half of `npm run build`: what tsc wrote to dist/ becomes one file for each program and thread, in dist/bundle/ under the
// same names. A host starts some twenty programs and threads for each twin; loading one file instead of some hundred modules
// takes a third of the processor time of a short run away (docs/adr/0005-programs-are-bundled.md).
import { globSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { defineConfig } from 'rolldown';

const entries = globSync([
  'dist/apps/*/src/main.js',
  'dist/apps/*/src/**/*-thread.js',
  'dist/apps/*/src/**/guest-main.js',
]);

/** Nest and its helpers try these at run time and do without them. */
const optional = [
  /^@nestjs\/(websockets|microservices|platform-express)/,
  'class-transformer',
  'class-validator',
  /^msgpackr-extract/,
];

/** The dashboard's server loads parts of Nest by name at run time: its packages stay where they are, so that there is one Nest. */
const isDashboard = (entry) => entry.startsWith('dist/apps/dashboard/');
const isPackage = (id) => /^[^./#]/.test(id) && !isAbsolute(id);

export default defineConfig(
  entries.map((entry) => ({
    input: { [entry.slice('dist/'.length, -'.js'.length)]: entry },
    platform: 'node',
    external: isDashboard(entry) ? isPackage : optional,
    output: { dir: 'dist/bundle', format: 'esm', entryFileNames: '[name].js', codeSplitting: false },
  })),
);
