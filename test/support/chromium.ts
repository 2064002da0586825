// A real Chromium for tests. Where there is none a suite is skipped and says so; HOSTLOOM_REQUIRE_BROWSER=1 makes its absence a
// failure.
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

function found(): string | null {
  for (const directory of [...(process.env.PATH ?? '').split(':'), '/usr/bin']) {
    for (const name of NAMES) {
      const path = join(directory || '.', name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // not here
      }
    }
  }
  return null;
}

const chromium = found();
if (chromium === null) {
  const missing = 'no Chromium on this machine (apt-get install chromium): the browser suite';
  if (process.env.HOSTLOOM_REQUIRE_BROWSER === '1')
    throw new Error(`${missing} cannot run, and HOSTLOOM_REQUIRE_BROWSER=1`);
  process.stderr.write(`${missing} is skipped; HOSTLOOM_REQUIRE_BROWSER=1 makes that a failure\n`);
}

/** null: there is none. */
export const chromiumPath = chromium;
