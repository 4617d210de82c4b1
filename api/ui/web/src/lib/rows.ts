// Moving through the rows of a table by keyboard: arrows or j and k, Home and End, Enter opens.

export function rows(table: HTMLElement) {
  const onkeydown = (event: KeyboardEvent) => {
    const row = (event.target as HTMLElement).closest<HTMLElement>("[data-row]");
    if (!row || event.target !== row || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...table.querySelectorAll<HTMLElement>("[data-row]")];
    const at = all.indexOf(row);
    let to: HTMLElement | undefined;
    if (event.key === "ArrowDown" || event.key === "j") to = all[at + 1];
    else if (event.key === "ArrowUp" || event.key === "k") to = all[at - 1];
    else if (event.key === "Home") to = all[0];
    else if (event.key === "End") to = all.at(-1);
    else if (event.key === "Enter") {
      row.click();
      event.preventDefault();
      return;
    } else return;
    event.preventDefault();
    to?.focus();
  };
  table.addEventListener("keydown", onkeydown);
  return { destroy: () => table.removeEventListener("keydown", onkeydown) };
}
