document.getElementById("app")!.textContent = "Nightjar";
