// The rules of access for plain HTTP, before any route: whoever may not even read gets 403 and nothing else; pages and pictures of
// the dashboard itself are no secret, but a foreign name or origin is refused for them too.
import type { NextFunction, Request, Response } from 'express';
import type { AccessService } from './access.service.ts';

const OPEN = /^\/(healthz|readyz)$/;
/** The page itself holds nothing of the host: off loopback it is what asks for the token. */
const isPage = (path: string): boolean => !path.startsWith('/api/');

export function httpAccess(access: AccessService) {
  return (request: Request, response: Response, next: NextFunction): void => {
    const address = request.socket.remoteAddress ?? '';
    if (OPEN.test(request.path)) next();
    else if (!access.mayAsk(address)) {
      response.status(429).set('retry-after', '1').json({ error: 'too many requests' });
    } else {
      const right = access.rightOf(request.headers, address);
      const foreign = right === 'none' && request.headers.origin !== undefined;
      response.locals.right = right;
      if (right !== 'none' || (!foreign && isPage(request.path))) next();
      else response.status(403).json({ error: 'the token is needed, and a page of this dashboard' });
    }
  };
}
