// Where the reader is, in the address behind `#`, so that a view can be sent to a colleague: `#/guest/3?from=7d000&to=7e000`.
const views = ['map', 'guest', 'locks', 'dma', 'queues'] as const;
export type View = (typeof views)[number];

export const viewTitles: Readonly<Record<View, string>> = {
  map: 'Host map',
  guest: 'Guest',
  locks: 'Locks',
  dma: 'DMA',
  queues: 'Queues and processes',
};
export const allViews: readonly View[] = views;

class Route {
  view = $state<View>('map');
  /** What stands behind the view's name. */
  subject = $state('');
  params = $state<Readonly<Record<string, string>>>({});

  constructor() {
    this.read();
    window.addEventListener('hashchange', () => this.read());
  }

  go(view: View, subject = '', params: Readonly<Record<string, string>> = {}): void {
    const query = new URLSearchParams(params).toString();
    location.hash = `/${view}${subject === '' ? '' : `/${subject}`}${query === '' ? '' : `?${query}`}`;
  }

  /** Changes the address without a step in the browser's history. */
  refine(params: Readonly<Record<string, string>>): void {
    const query = new URLSearchParams(params).toString();
    const hash = `#/${this.view}${this.subject === '' ? '' : `/${this.subject}`}${query === '' ? '' : `?${query}`}`;
    history.replaceState(null, '', hash);
    this.params = params;
  }

  private read(): void {
    const [path = '', query = ''] = location.hash.slice(1).split('?');
    const [, view = '', subject = ''] = path.split('/');
    this.view = views.find((name) => name === view) ?? 'map';
    this.subject = subject;
    this.params = Object.fromEntries(new URLSearchParams(query));
  }
}

/** The token that `hostloom up` put into the address: kept for this tab, and taken out of the address at once. */
function takeToken(): string | null {
  const found = /(?:^#|&)token=([^&]+)/.exec(location.hash)?.[1];
  if (found !== undefined) {
    sessionStorage.setItem('hostloom-token', decodeURIComponent(found));
    history.replaceState(null, '', `${location.pathname}#/map`);
  }
  return sessionStorage.getItem('hostloom-token');
}

export const token = takeToken();
export const route = new Route();
