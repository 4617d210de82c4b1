// Who is logged in. The token lives as long as the tab; there is no cookie, so another site cannot use it.

const KEY = "nightjar.session";

interface Kept {
  token: string;
  username: string;
  role: string;
}

class Session {
  token = $state<string | null>(null);
  username = $state("");
  role = $state("viewer");
  /** Set when the server no longer knows the token, so that the login page can say why it is back. */
  expired = $state(false);

  constructor() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Kept | null;
      if (kept) this.take(kept);
    } catch {
      // Storage may be forbidden: then a reload asks for the password again.
    }
  }

  private take(kept: Kept) {
    this.token = kept.token;
    this.username = kept.username;
    this.role = kept.role;
  }

  begin(kept: Kept) {
    this.take(kept);
    this.expired = false;
    try {
      sessionStorage.setItem(KEY, JSON.stringify(kept));
    } catch {
      // As above.
    }
  }

  end() {
    this.token = null;
    try {
      sessionStorage.removeItem(KEY);
    } catch {
      // As above.
    }
  }

  expire() {
    if (this.token) this.expired = true;
    this.end();
  }

  get isAdmin() {
    return this.role === "admin";
  }

  get isOperator() {
    return this.role === "admin" || this.role === "operator";
  }
}

export const session = new Session();
