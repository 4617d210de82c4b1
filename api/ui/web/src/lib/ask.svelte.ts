// Short messages at the edge of the page, and the question before something is destroyed.

import { ApiError } from "./api";
import { t } from "./i18n.svelte";

export interface Toast {
  id: number;
  text: string;
  bad: boolean;
}

export interface Question {
  title: string;
  text: string;
  action: string;
  answer: (yes: boolean) => void;
}

class Ask {
  toasts = $state.raw<Toast[]>([]);
  question = $state.raw<Question | null>(null);
  private next = 1;

  say(text: string, bad = false) {
    const id = this.next++;
    this.toasts = [...this.toasts.slice(-3), { id, text, bad }];
    setTimeout(() => (this.toasts = this.toasts.filter((toast) => toast.id !== id)), bad ? 9000 : 4000);
  }

  /** Shows what went wrong, in the server's words. */
  fail(e: unknown) {
    this.say(explain(e), true);
  }

  confirm(title: string, text: string, action: string): Promise<boolean> {
    return new Promise((resolve) => {
      this.question = {
        title,
        text,
        action,
        answer: (yes) => {
          this.question = null;
          resolve(yes);
        },
      };
    });
  }
}

/** An error as a sentence. */
export function explain(e: unknown): string {
  if (e instanceof ApiError) {
    if (e.status === 0) return t("error.unreachable");
    if (e.code === "FORBIDDEN") return t("error.forbidden");
    return e.message;
  }
  return e instanceof Error ? e.message : String(e);
}

export const ask = new Ask();
